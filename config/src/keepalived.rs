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
    (
        "ip_family",
        "remove it: the `address` says it; a virtual server of a `mark` has `family`, with \"ipv4\" or \"ipv6\"",
    ),
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
    ("sorry_server_inhibit", "remove it: `sorry_mode` says how the sorry server stands in"),
    ("sorry_server_lvs_method", "write `forwarding` in [virtual_server.sorry_server]"),
    ("smtp_alert", "remove it: weir sends no mail; watch its metrics"),
    ("ha_suspend", "remove it: there is no such switch; health checks go on on a backup"),
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
    ("name", "write `query`, the name that a check of `type = \"dns\"` asks for"),
    ("bindto", "write `source`"),
    ("bind_to", "write `source`"),
    ("digest", "write `expect_md5`"),
    ("status_code", "write `status`, an array: `status = [200]`"),
    ("regex", "write `expect_body_regex`"),
    ("regex_no_match", "remove it: what must not be in a body can't be said"),
    ("virtualhost", "write `host`"),
    ("http_protocol", "remove it: requests are HTTP/1.1"),
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

/// keepalived has `digest`, `status_code` and more in each `url`.
const URLS: &[Word] = &[
    ("digest", "write `expect_md5`"),
    ("status_code", "write `status`, an array: `status = [200]`"),
    ("regex", "write `expect_body_regex`"),
    ("regex_no_match", "remove it: what must not be in a body can't be said"),
    ("virtualhost", "write `host` in the [virtual_server.health_check] that this belongs to"),
    ("http_protocol", "remove it: requests are HTTP/1.1"),
];

const MARKS: &[Word] = &[
    (
        "destination",
        "write `addresses`, an array of addresses and networks: `addresses = [\"192.0.2.0/24\"]`",
    ),
    ("fwmark", "write `mark`"),
    ("dport", "write `ports`, an array of ports and ranges: `ports = [80]`"),
    ("port", "write `ports`, an array of ports and ranges: `ports = [80]`"),
    ("protocol", "write `protocols`, an array: `protocols = [\"tcp\"]`"),
    ("address", "write `addresses`, an array of addresses and networks: `addresses = [\"192.0.2.0/24\"]`"),
    ("source", "write `sources`, an array of addresses and networks: `sources = [\"192.0.2.0/24\"]`"),
];

const VRRP: &[Word] = &[
    ("state", "remove it: the router of the highest `priority` becomes master"),
    ("interface", "write `port`, the name of a [[port]]"),
    ("virtual_ipaddress", "write `addresses`"),
    ("virtual_ipaddress_excluded", "write `excluded_addresses`"),
    ("advert_int", "write `advertisement_interval`"),
    ("vrrp_version", "write `version`"),
    ("nopreempt", "write `preempt = false`"),
    ("use_vmac", "write `virtual_mac = true`, which is the default"),
    ("vmac_xmit_base", "remove it: with `virtual_mac = false` everything comes from the port's MAC address"),
    ("track_interface", "write a [[vrrp.track]] with `port`"),
    ("track_file", "write a [[vrrp.track]] with `file`"),
    ("track_script", "write a [[vrrp.track]] with `script`"),
    ("track_process", "write a [[vrrp.track]] with `process`"),
    ("unicast_peer", "write `unicast_peers`"),
    ("unicast_src_ip", "write `source_address`"),
    ("mcast_src_ip", "write `source_address`"),
    ("min_ttl", "write `ttl_min`"),
    ("max_ttl", "write `ttl_max`"),
    ("auth_type", "write [vrrp.authentication] with `type` and `password`"),
    ("auth_pass", "write [vrrp.authentication] with `type` and `password`"),
    ("dont_track_primary", "remove it: the link of the instance's own port always counts"),
    ("strict_mode", "remove it: weir keeps the RFC's rules"),
    ("notify_fifo", "write `vrrp_notify_fifo` in [control]"),
    ("vrrp_notify_fifo", "write `vrrp_notify_fifo` in [control]"),
    ("smtp_alert", "remove it: weir sends no mail; watch its metrics"),
];

const TRACK: &[Word] = &[
    ("interface", "write `port`, the name of a [[port]]"),
    ("full_command", "remove it: `process` is compared with names alone"),
];

const AUTHENTICATION: &[Word] = &[
    ("auth_type", "write `type`, with \"pass\" or \"ah\""),
    ("auth_pass", "write `password`, with the 8 bytes at most that keepalived uses"),
];

const HMAC: &[Word] = &[("key", "write `keys`, an array of such as \"1 hex:...\"")];

/// At the top of the file: blocks of keepalived, and tables that belong in another.
const TOP: &[Word] = &[
    ("global_defs", "weir has no such table: see docs/configuration.md"),
    ("vrrp_instance", "write [[vrrp]] with a `name`"),
    ("vrrp_script", "write a [[vrrp.track]] with `script`, after each [[vrrp]] that has it"),
    ("vrrp_track_process", "write a [[vrrp.track]] with `process`, after each [[vrrp]] that has it"),
    ("virtual_server_group", "write a [[mark]] that holds the addresses"),
    ("router_id", "remove it: weir does not need one"),
    ("real_server", "write [[virtual_server.real_server]], after the [[virtual_server]] that it belongs to"),
    ("health_check", "write [virtual_server.health_check], after the [[virtual_server]] that it belongs to"),
    ("sorry_server", "write [virtual_server.sorry_server], after the [[virtual_server]] that it belongs to"),
    ("agent", "write [virtual_server.agent], after the [[virtual_server]] that it belongs to"),
    ("passive", "write [virtual_server.passive], after the [[virtual_server]] that it belongs to"),
    ("track", "write [[vrrp.track]], after the [[vrrp]] that it belongs to"),
    ("authentication", "write [vrrp.authentication], after the [[vrrp]] that it belongs to"),
    ("auth_hmac", "write [vrrp.auth_hmac], after the [[vrrp]] that it belongs to"),
    ("timeouts", "write [connections.timeouts]"),
];

/// What to write in a table of this kind instead of another program's word.
pub(crate) fn advice(kind: &str, word: &str) -> Option<&'static str> {
    let words = match kind {
        "the file" => TOP,
        "[[virtual_server]]" | "[[virtual_server.real_server]]" => SERVERS,
        "[virtual_server.health_check]" => CHECKS,
        "[[virtual_server.health_check.url]]" => URLS,
        "[[mark]]" => MARKS,
        "[[vrrp]]" => VRRP,
        "[[vrrp.track]]" => TRACK,
        "[vrrp.authentication]" => AUTHENTICATION,
        "[vrrp.auth_hmac]" => HMAC,
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

    /// Every list with the tables that its words are written in.
    const LISTS: [(&[&str], &[Word]); 9] = [
        (&["virtual_server", "virtual_server.real_server"], SERVERS),
        (&["virtual_server.health_check"], CHECKS),
        (&["virtual_server.health_check.url"], URLS),
        (&["mark"], MARKS),
        (&["vrrp"], VRRP),
        (&["vrrp.track"], TRACK),
        (&["vrrp.authentication"], AUTHENTICATION),
        (&["vrrp.auth_hmac"], HMAC),
        (&["the file"], TOP),
    ];

    /// What stands in brackets and names a table.
    fn tables_in(advice: &str) -> Vec<&str> {
        let all = advice.split('[').filter_map(|rest| rest.split_once(']')).map(|(table, _)| table);
        // What stands in brackets after a key is its value.
        all.filter(|table| !table.is_empty() && !table.starts_with(|c: char| c == '"' || c.is_ascii_digit()))
            .collect()
    }

    #[test]
    fn what_is_to_be_written_instead_exists_where_it_is_to_be_written() {
        for (own, words) in LISTS {
            for (word, advice) in words {
                let tables = tables_in(advice);
                for table in &tables {
                    let is_known = crate::keys_of(table).is_some() || *table == "virtual_server.sorry_server";
                    assert!(is_known, "{word}: {advice}");
                }
                let at: Vec<&str> = tables.iter().chain(own).copied().collect();
                let keys: Vec<&str> =
                    at.iter().filter_map(|table| crate::keys_of(table)).flatten().copied().collect();
                let codes = advice.split('`').skip(1).step_by(2);
                for code in codes.filter(|code| !code.starts_with('/') && !code.starts_with("weir_")) {
                    let key = code.split(' ').next().unwrap();
                    // A sorry server has the keys of a real server.
                    let is_there = keys.contains(&key) || tables.contains(&"virtual_server.sorry_server");
                    assert!(is_there, "{word}: {advice}");
                }
                assert!(
                    advice.starts_with("write ")
                        || advice.starts_with("remove it: ")
                        || advice.contains("see docs"),
                    "{word}: {advice}"
                );
            }
        }
    }

    #[test]
    fn a_word_of_another_program_is_no_key_of_the_same_table() {
        for (tables, words) in LISTS {
            let keys = crate::keys_of(tables[0]).unwrap();
            for (word, advice) in words {
                assert!(!keys.contains(word), "{word}: {advice}");
            }
        }
    }
}
