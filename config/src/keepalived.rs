//! Words of keepalived and ipvsadm with what weir's file has for them: its readers come from there.

use crate::report::Problem;
use crate::schema::Span;

/// A word that somebody brings along, and what to write instead. Keys and tables of weir's file stand in backticks and
/// brackets; a test looks whether they exist.
type Word = (&'static str, &'static str);

/// Where `[[virtual_server]]` and `[[virtual_server.real_server]]` are meant.
const SERVERS: &[Word] = &[
    ("lb_algo", "write `scheduler`"),
    ("lvs_sched", "write `scheduler`"),
    ("lb_kind", "write `forwarding`, with \"dr\", \"tun\" or \"nat\""),
    ("lvs_method", "write `forwarding`, with \"dr\", \"tun\" or \"nat\""),
    ("delay_loop", "write `interval` in a [virtual_server.health_check]"),
    ("delay_before_retry", "write `retry_interval` in a [virtual_server.health_check]"),
    ("retry", "write `fall` in a [virtual_server.health_check]: failures in a row, the first included"),
    ("connect_timeout", "write it in a [virtual_server.health_check]"),
    ("warmup", "write it in a [virtual_server.health_check]"),
    ("virtualhost", "write `host` in a [virtual_server.health_check]"),
    ("inhibit_on_failure", "write `on_fail = \"quiesce\"`"),
    ("ip_family", "write `family`"),
    ("fwmark", "write `mark`, and a [[mark]] that says which traffic has it"),
    ("fwm", "write `mark`, and a [[mark]] that says which traffic has it"),
    ("virtual_server_group", "write a [[mark]] that holds the addresses, and `mark` here"),
    ("ops", "write `one_packet = true`"),
    ("persistence_granularity", "write `persistence_netmask` with a prefix length, such as 24"),
    ("granularity", "write `persistence_netmask` with a prefix length, such as 24"),
    ("persistent", "write `persistence_timeout`, in seconds"),
    ("hashed", "write `scheduler_flags`"),
    ("sh-port", "write `scheduler_flags = [\"sh-port\"]`"),
    ("sh-fallback", "write `scheduler_flags = [\"sh-fallback\"]`"),
    ("mh-port", "write `scheduler_flags = [\"mh-port\"]`"),
    ("mh-fallback", "write `scheduler_flags = [\"mh-fallback\"]`"),
    ("uthreshold", "write `upper_threshold`"),
    ("lthreshold", "write `lower_threshold`"),
    ("ip", "write `address`"),
    ("ha_suspend", "there is no such switch: health checks go on on a backup; remove the line"),
    ("lvs_timeouts", "write [connections.timeouts]"),
    ("TCP_CHECK", "write a [virtual_server.health_check] with `type = \"tcp\"`"),
    ("HTTP_GET", "write a [virtual_server.health_check] with `type = \"http\"`"),
    ("SSL_GET", "write a [virtual_server.health_check] with `type = \"https\"`"),
    ("UDP_CHECK", "write a [virtual_server.health_check] with `type = \"udp\"`"),
    ("DNS_CHECK", "write a [virtual_server.health_check] with `type = \"dns\"`"),
    ("SMTP_CHECK", "write a [virtual_server.health_check] with `type = \"smtp\"`"),
    ("PING_CHECK", "write a [virtual_server.health_check] with `type = \"ping\"`"),
    ("MISC_CHECK", "write a [virtual_server.health_check] with `type = \"exec\"`"),
];

const CHECKS: &[Word] = &[
    ("connect_ip", "write `address`"),
    ("connect_port", "write `port`"),
    ("bindto", "write `source`"),
    ("bind_to", "write `source`"),
    ("digest", "write `expect_md5`"),
    ("status_code", "write `status`"),
    ("regex", "write `expect_body_regex`"),
    ("virtualhost", "write `host`"),
    ("retry", "write `fall`: failures in a row, the first included"),
    ("nb_get_retry", "write `fall`: failures in a row, the first included"),
    ("delay_before_retry", "write `retry_interval`"),
    ("delay_loop", "write `interval`"),
    ("misc_path", "write `command`, an array of the program and its arguments"),
    ("misc_timeout", "write `timeout`"),
    ("misc_dynamic", "write `dynamic_weight = true`"),
    ("user", "write `script_user` under [health]"),
    ("helo_name", "write `helo`"),
    ("payload", "write `send_hex`"),
    ("enable_sni", "write `tls_server_name`"),
];

const VRRP: &[Word] = &[
    ("state", "remove it: the router of the highest `priority` becomes master"),
    ("interface", "write `port`, the name of a [[port]]"),
    ("virtual_ipaddress", "write `addresses`, without prefix lengths"),
    ("virtual_ipaddress_excluded", "write them into `addresses` as well: they are all in the advertisement"),
    ("advert_int", "write `advertisement_interval`"),
    ("vrrp_version", "write `version`"),
    ("nopreempt", "write `preempt = false`"),
    ("use_vmac", "write `virtual_mac = true`, which is the default"),
    ("vmac_xmit_base", "remove it: with `virtual_mac = false` everything comes from the port's MAC address"),
    ("track_interface", "write a [[vrrp.track]] with `port`"),
    ("track_file", "write a [[vrrp.track]] with `file`"),
    ("track_script", "write a [[vrrp.track]] with `virtual_server`, or with a `file` that the script writes"),
    ("track_process", "write a [[vrrp.track]] with a `file` that something writes"),
    ("unicast_peer", "write `unicast_peers`"),
    ("unicast_src_ip", "remove it: advertisements come from the port's first address"),
    ("mcast_src_ip", "remove it: advertisements come from the port's first address"),
    ("auth_type", "write [vrrp.authentication] with `type`"),
    ("auth_pass", "write [vrrp.authentication] with `password`"),
    ("dont_track_primary", "remove it: the link of the instance's own port always counts"),
    ("strict_mode", "remove it: weir keeps the RFC's rules"),
    ("notify_master", "weir runs no programs for VRRP: watch `/api/v1/vrrp` or `weir_vrrp_state`"),
    ("notify_backup", "weir runs no programs for VRRP: watch `/api/v1/vrrp` or `weir_vrrp_state`"),
    ("notify_fault", "weir runs no programs for VRRP: watch `/api/v1/vrrp` or `weir_vrrp_state`"),
    ("notify", "weir runs no programs for VRRP: watch `/api/v1/vrrp` or `weir_vrrp_state`"),
    ("smtp_alert", "weir sends no mail: watch its metrics"),
];

/// At the top of the file: blocks of keepalived, and tables that belong in another.
const TOP: &[Word] = &[
    ("global_defs", "weir has no such table: see docs/configuration.md"),
    ("vrrp_instance", "write [[vrrp]] with a `name`"),
    ("vrrp_sync_group", "write `sync_group` with the same name in each [[vrrp]] of it"),
    ("vrrp_script", "write a [[vrrp.track]] with `virtual_server`, or with a `file` that the script writes"),
    ("virtual_server_group", "write a [[mark]] that holds the addresses"),
    ("router_id", "remove it: weir does not need one"),
    ("real_server", "write [[virtual_server.real_server]], after the [[virtual_server]] that it belongs to"),
    ("health_check", "write [virtual_server.health_check], after the [[virtual_server]] that it belongs to"),
    ("sorry_server", "write [virtual_server.sorry_server], after the [[virtual_server]] that it belongs to"),
    ("agent", "write [virtual_server.agent], after the [[virtual_server]] that it belongs to"),
    ("passive", "write [virtual_server.passive], after the [[virtual_server]] that it belongs to"),
    ("track", "write [[vrrp.track]], after the [[vrrp]] that it belongs to"),
    ("authentication", "write [vrrp.authentication], after the [[vrrp]] that it belongs to"),
    ("timeouts", "write [connections.timeouts]"),
];

/// What to write in a table of this kind instead of another program's word.
pub(crate) fn advice(kind: &str, word: &str) -> Option<&'static str> {
    let words = match kind {
        "the file" => TOP,
        "[[virtual_server]]" | "[[virtual_server.real_server]]" => SERVERS,
        "[virtual_server.health_check]" => CHECKS,
        "[[vrrp]]" => VRRP,
        _ => return None,
    };
    words.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(word)).map(|(_, advice)| *advice)
}

/// Words at the beginning of keepalived's blocks, whose lines hold addresses and names.
pub(crate) const BLOCKS: [&str; 8] = [
    "global_defs",
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_script",
    "virtual_server",
    "virtual_server_group",
    "static_ipaddress",
    "real_server",
];

/// A whole file of keepalived's: blocks in braces, where TOML has tables in brackets.
pub(crate) fn whole_file(text: &str) -> Option<Problem> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let words = line.trim();
        let name = words.split([' ', '\t', '{']).next().unwrap_or_default();
        let opens = || words.ends_with('{') || text[start + line.len()..].trim_start().starts_with('{');
        if BLOCKS.contains(&name) && !words.contains('=') && opens() {
            let from = start + (line.len() - line.trim_start().len());
            let span: Span = from..from + words.len();
            return Some(
                Problem::error("this is keepalived's language, not TOML")
                    .at(span, "a block of keepalived.conf")
                    .help(
                        "weir's file has tables such as [[virtual_server]] and [[vrrp]]; docs/weir.example.toml shows \
                         one, docs/vrrp.md and docs/ipvs.md say what keepalived's and ipvsadm's words are there",
                    ),
            );
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_written_instead_exists() {
        let tables = [
            "control",
            "health",
            "port",
            "mark",
            "virtual_server",
            "virtual_server.real_server",
            "virtual_server.health_check",
            "vrrp",
            "vrrp.track",
            "vrrp.authentication",
        ];
        let keys: Vec<&str> =
            tables.iter().flat_map(|table| crate::keys_of(table).unwrap()).copied().collect();
        for (word, advice) in [SERVERS, CHECKS, VRRP, TOP].concat() {
            for code in advice
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|code| !code.starts_with('/') && !code.starts_with("weir_"))
            {
                let key = code.split(' ').next().unwrap();
                assert!(keys.contains(&key), "{word}: {advice}");
            }
            for table in advice.split('[').filter_map(|rest| rest.split_once(']')).map(|(table, _)| table) {
                // What stands in brackets after a key is its value.
                let is_known = crate::keys_of(table).is_some() || table == "virtual_server.sorry_server";
                assert!(table.starts_with('"') || is_known, "{word}: {advice}");
            }
        }
    }

    #[test]
    fn a_word_of_another_program_is_no_key_of_the_same_table() {
        let kinds = [("virtual_server", SERVERS), ("virtual_server.health_check", CHECKS), ("vrrp", VRRP)];
        for (table, words) in kinds {
            let keys = crate::keys_of(table).unwrap();
            for (word, advice) in words {
                assert!(!keys.contains(word), "{table}: {word}: {advice}");
            }
        }
    }

    #[test]
    fn a_block_of_keepalived_is_told_from_a_table() {
        let text = "# a comment\n\nvirtual_server 10.0.0.100 80 {\n    lb_algo wlc\n}\n";
        let place = whole_file(text).unwrap().place.unwrap();
        assert_eq!(&text[place.span], "virtual_server 10.0.0.100 80 {");
        assert!(whole_file("vrrp_instance VI_1\n{\n}\n").is_some());
        assert!(
            whole_file("[[virtual_server]]\nname = \"a\nvirtual_server = {}\nreal_server = [\n").is_none()
        );
    }
}
