//! Which changes of a file need devices or memory anew, and so a restart. docs/configuration.md lists the same keys.

use std::fmt::Debug;

use weir_config::model::{Config, Idle, Port};

/// A sentence that names every key of `new` that a reload can't change, with its former value; `None`: there is none.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Option<String> {
    let mut changed = Changed::default();
    let socket = |config: &Config| config.control.socket.display().to_string();
    changed.compare("`socket` of [control]", &socket(old), &socket(new));
    changed.compare("`user` of [control]", &old.control.user, &new.control.user);
    changed.compare("`group` of [control]", &old.control.group, &new.control.group);
    changed.compare("`core_dumps` of [control]", &old.control.core_dumps, &new.control.core_dumps);
    let crashes =
        |config: &Config| config.control.crash_directory.as_ref().map(|path| path.display().to_string());
    changed.compare("`crash_directory` of [control]", &crashes(old), &crashes(new));
    changed.compare("`listen` of [http]", &old.http.listen, &new.http.listen);
    changed.compare("`hosts` of [http]", &old.http.hosts, &new.http.hosts);
    changed.compare("`mbufs` of [memory]", &old.memory.mbufs, &new.memory.mbufs);
    changed.compare(
        "`mbuf_data_bytes` of [memory]",
        &old.memory.mbuf_data_bytes,
        &new.memory.mbuf_data_bytes,
    );
    let idle = |config: &Config| match config.workers.idle {
        Idle::Poll => "poll",
        Idle::Sleep => "sleep",
    };
    changed.compare("`idle` of [workers]", &idle(old), &idle(new));
    changed.compare(
        "`sleep_max_us` of [workers]",
        &old.workers.sleep_max.as_micros(),
        &new.workers.sleep_max.as_micros(),
    );
    changed.compare("`keep` of [connections]", &old.connections.keep, &new.connections.keep);
    let keeper = |config: &Config| config.connections.keeper.as_ref().map(|path| path.display().to_string());
    changed.compare("`keeper` of [connections]", &keeper(old), &keeper(new));
    changed.compare("`capacity` of [connections]", &old.connections.capacity, &new.connections.capacity);
    changed.compare(
        "`ipv6_clients` of [connections]",
        &old.connections.ipv6_clients,
        &new.connections.ipv6_clients,
    );
    changed.compare("`templates` of [connections]", &old.connections.templates, &new.connections.templates);
    changed.compare(
        "`ipv6_templates` of [connections]",
        &old.connections.ipv6_templates,
        &new.connections.ipv6_templates,
    );
    changed.compare("`fragments` of [connections]", &old.connections.fragments, &new.connections.fragments);
    // Its thread is started with what it may do, or not at all.
    if old.announces.is_empty() && !new.announces.is_empty() {
        changed.compare("the first [[announce]]", &None::<bool>, &Some(true));
    }
    let names =
        |config: &Config| -> Vec<String> { config.ports.iter().map(|port| port.name.clone()).collect() };
    match names(old) == names(new) {
        true => old.ports.iter().zip(&new.ports).for_each(|(old, new)| changed.port(old, new)),
        // Which is which is no more known.
        false => changed.compare("the [[port]]s and their `name`", &names(old), &names(new)),
    }
    changed.sentence()
}

#[derive(Default)]
struct Changed(Vec<String>);

impl Changed {
    fn port(&mut self, old: &Port, new: &Port) {
        let of = |key: &str| format!("`{key}` of [[port]] \"{}\"", old.name);
        self.compare(&of("device"), &old.device, &new.device);
        let vlan = |port: &Port| port.vlan.map(|vlan| vlan.id);
        self.compare(&of("vlan"), &vlan(old), &vlan(new));
        let mac = |port: &Port| port.mac.map(|mac| dpdk::MacAddress(mac.0).to_string());
        self.compare(&of("mac"), &mac(old), &mac(new));
        self.compare(&of("mtu"), &old.mtu, &new.mtu);
        self.compare(&of("rx_queues"), &old.rx_queues, &new.rx_queues);
        self.compare(&of("host_interface"), &old.host_interface, &new.host_interface);
    }

    fn compare<T: PartialEq + Debug>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{key} (in force: {})", shown(old)));
        }
    }

    fn sentence(self) -> Option<String> {
        (!self.0.is_empty()).then(|| {
            format!(
                "{} can't change while weir runs: write what is in force, or restart weir",
                self.0.join(", ")
            )
        })
    }
}

/// A value for people.
fn shown(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => inner.to_owned(),
        None if text == "None" => "not written".to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = "name = \"lan\"\ndevice = \"net_null0\"\n";

    fn config(text: &str) -> Config {
        weir_config::parse("weir.toml", text).unwrap_or_else(|report| panic!("{report}")).config
    }

    /// A value of a key other than its default.
    fn other(table: &str, key: &str) -> &'static str {
        match (table, key) {
            ("control", "socket") => "\"/run/other.sock\"",
            ("control", "proc_directory") => "\"/run/weir/proc\"",
            ("control", "user") => "\"daemon\"",
            ("control", "group") => "\"daemon\"\nuser = \"daemon\"",
            ("control", "core_dumps") => "true",
            ("control", "linger") => "5",
            ("control", "crash_directory") => "\"\"",
            ("control", "vrrp_notify_fifo") => "\"/run/weir/vrrp.fifo\"",
            ("http", "listen") => "\"127.0.0.1:9999\"",
            ("http", "hosts") => "[\"weir.example.org\"]",
            ("http", "tls_certificate") => "\"/etc/weir/cert.pem\"",
            ("http", _) => "\"/etc/weir/other\"\ntls_certificate = \"/etc/weir/cert.pem\"",
            ("memory", "mbufs") => "4096",
            ("memory", "mbuf_data_bytes") => "4096",
            ("workers", "idle") => "\"sleep\"",
            ("workers", "sleep_max_us") => "50",
            ("connections", "keeper") => "\"/run/other.sock\"",
            ("connections", "conn_reuse_mode") => "0",
            ("connections", "pmtu_disc") => "false",
            ("connections", "ipfrag_time" | "ip6frag_time") => "5",
            ("connections", "fragments" | "capacity" | "ipv6_clients" | "templates" | "ipv6_templates") => {
                "65536"
            }
            ("connections", _) => "true",
            ("schedulers", "mh_table_size") => "251",
            ("schedulers", _) => "5",
            ("health", "concurrent_max") => "5",
            ("health", _) => "\"daemon\"",
            ("port", "name") => "\"wan\"",
            ("port", "device") => "\"net_null1\"",
            ("port", "vlan") => "8",
            ("port", "mac") => "\"02:00:00:00:00:01\"",
            ("port", "addresses") => "[\"10.0.0.2/24\"]",
            ("port", "mtu") => "1400",
            ("port", "rx_queues") => "1",
            ("port", "proxy_arp") => "[\"10.9.0.0/24\"]",
            ("port", "host_interface") => "\"weir0\"",
            _ => panic!("write another value of `{key}` in [{table}] here"),
        }
    }

    /// What docs/configuration.md says needs a restart: table and key.
    fn documented() -> Vec<(String, String)> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let reference = std::fs::read_to_string(path).unwrap();
        let section =
            reference.split("\n## ").find(|section| section.starts_with("What a reload can't change"));
        let rows = section.expect("the section").lines().filter(|line| line.starts_with("| `["));
        let keys = rows.flat_map(|row| {
            let words: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
            let table = words[0].trim_matches(['[', ']']).to_owned();
            words[1..].iter().map(move |key| (table.clone(), (*key).to_owned())).collect::<Vec<_>>()
        });
        keys.collect()
    }

    #[test]
    fn the_documentation_lists_what_needs_a_restart() {
        let documented = documented();
        let mut needed = Vec::new();
        for table in ["control", "http", "memory", "workers", "connections", "schedulers", "health", "port"] {
            for key in weir_config::keys_of(table).unwrap() {
                if *key == "timeouts" {
                    continue;
                }
                let line = format!("{key} = {}\n", other(table, key));
                let (old, new) = match table {
                    "port" if *key == "vlan" => {
                        let with = |vlan: &str| {
                            config(&format!(
                                "[[port]]\n{PORT}[[port]]\nname = \"vlan\"\ndevice = \"net_null0\"\n{vlan}"
                            ))
                        };
                        (with("vlan = 7\n"), with(&line))
                    }
                    "port" => {
                        let kept = PORT.lines().filter(|kept| !kept.starts_with(key));
                        let kept: String = kept.flat_map(|kept| [kept, "\n"]).collect();
                        (config(&format!("[[port]]\n{PORT}")), config(&format!("[[port]]\n{kept}{line}")))
                    }
                    _ => {
                        let plain = format!("[[port]]\n{PORT}");
                        (config(&plain), config(&format!("{plain}[{table}]\n{line}")))
                    }
                };
                if let Some(sentence) = needs_restart(&old, &new) {
                    assert!(sentence.contains(&format!("`{key}`")), "{sentence}");
                    needed.push((table.to_owned(), (*key).to_owned()));
                }
            }
        }
        assert_eq!(needed, documented);
    }

    #[test]
    fn every_key_that_can_not_change_is_named_with_its_former_value() {
        let old = config(&format!("[[port]]\n{PORT}"));
        let new = config(&format!("[http]\nlisten = \"127.0.0.1:9999\"\n[[port]]\n{PORT}mtu = 1400\n"));
        let slower = config(&format!("[workers]\nidle = \"sleep\"\nsleep_max_us = 50\n[[port]]\n{PORT}"));
        let slow = config(&format!("[workers]\nidle = \"sleep\"\nsleep_max_us = 1000\n[[port]]\n{PORT}"));
        let said = needs_restart(&slow, &slower).unwrap();
        assert!(said.starts_with("`sleep_max_us` of [workers] (in force: 1000) can't"), "{said}");
        assert_eq!(
            needs_restart(&old, &new).unwrap(),
            "`listen` of [http] (in force: 127.0.0.1:9292), `mtu` of [[port]] \"lan\" (in force: 1500) can't change \
             while weir runs: write what is in force, or restart weir"
        );
        assert_eq!(needs_restart(&old, &old), None);
    }
}
