//! keepalived's words: which open blocks, and what becomes of those that weir's file has nothing for.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// Blocks that stand in no other.
const TOP: [&str; 14] = [
    "global_defs",
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_script",
    "vrrp_track_process",
    "vrrp_track_file",
    "virtual_server",
    "virtual_server_group",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "bfd_instance",
    "garp_group",
    "local_address_group",
];

/// Blocks that stand in one of these.
const INNER: [(&str, &[&str]); 5] = [
    ("virtual_server", &["real_server"]),
    (
        "real_server",
        &[
            "TCP_CHECK",
            "HTTP_GET",
            "SSL_GET",
            "SMTP_CHECK",
            "DNS_CHECK",
            "MISC_CHECK",
            "UDP_CHECK",
            "PING_CHECK",
            "BFD_CHECK",
            "FILE_CHECK",
        ],
    ),
    (
        "vrrp_instance",
        &[
            "authentication",
            "auth_hmac",
            "virtual_ipaddress",
            "virtual_ipaddress_excluded",
            "virtual_routes",
            "virtual_rules",
            "track_interface",
            "track_script",
            "track_file",
            "track_process",
            "track_bfd",
            "unicast_peer",
        ],
    ),
    ("vrrp_sync_group", &["group"]),
    ("global_defs", &["notification_email"]),
];

/// Whether a block of this word stands in no other.
pub(super) fn is_top(word: &str) -> bool {
    TOP.contains(&word)
}

/// Whether a word stands in blocks only.
pub(super) fn is_inner(word: &str) -> bool {
    !is_top(word)
        && (INNER.iter().any(|(_, words)| words.contains(&word))
            || CARRIED.contains(&word) && !NAMES.contains(&word))
}

/// Whether nothing but a block can be meant.
pub(super) fn needs_block(word: &str, around: Option<&str>) -> bool {
    match around {
        None => is_top(word),
        Some(around) => {
            is_top(word) && !(around == "vrrp_instance" || around == "global_defs")
                || INNER.iter().any(|(block, words)| *block == around && words.contains(&word))
        }
    }
}

/// What becomes of a word that has no key of weir's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nothing is lost.
    Nothing,
    /// What to do instead.
    Instead(&'static str),
}

const MAIL: Absent = Absent::Instead("weir sends no mail: alert on its metrics (docs/metrics.md)");
const HOOK: Absent = Absent::Instead(
    "weir runs programs for states of VRRP alone: what this started or stopped has to follow `weirctl events` or be a service of its own",
);
const ROUTER: Absent = Absent::Instead(
    "weir is no router: routes and rules of the host stay with the host, weir's own are [[route]]",
);
const SYNC: Absent = Absent::Instead(
    "weir tells no other director of its connections; write [sync] to hear what a kernel's IPVS tells (docs/sync.md)",
);
const EXPORT: Absent = Absent::Instead("there is no SNMP and no D-Bus: use /metrics and /api/v1");
const FIFO: Absent = Absent::Instead(
    "weir writes VRRP's states into a FIFO, and starts nothing that reads it: virtual servers have hooks",
);
const BFD: Absent = Absent::Instead("weir speaks no BFD");
const DPVS: Absent = Absent::Instead("this is of DPVS (FullNAT and the like), which weir has not");
const GROUP: Absent = Absent::Instead("multicast goes to VRRP's own groups");
const PAUSE: Absent =
    Absent::Instead("pauses between announcements are an instance's: `garp_interval`, `gna_interval`");
const RULES: Absent =
    Absent::Instead("there is no such switch: docs/vrrp.md says what weir does with advertisements");
const NAMESPACE: Absent = Absent::Instead(
    "weir and its ports are in the network namespace that it is started in: `ip netns exec`, or NetworkNamespacePath= of its unit",
);
const LINK: Absent =
    Absent::Instead("the link of an instance's own port always counts, and the card says how it is");
const PLACED: Absent = Absent::Instead("virtual addresses are on no interface of the kernel");
const CHECKED: Absent =
    Absent::Instead("checks run on backups, too: they know the real servers when they take over");
const SOURCE: Absent =
    Absent::Instead("advertisements and checks come from the port's and the host's own addresses");
const CHECKER: Absent = Absent::Instead("a check of weir's has no such option");

/// The words, the same that they share together.
const WORDS: &[(Absent, &[&str])] = &[
    (
        MAIL,
        &[
            "notification_email",
            "notification_email_from",
            "smtp_server",
            "smtp_connect_timeout",
            "smtp_helo_name",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "email_faults",
            "no_email_faults",
            "no_checker_emails",
            "smtp_server_port",
            "checker_alert_smtp",
        ],
    ),
    (
        HOOK,
        &[
            "notify_deleted",
            "notify_master_rx_lower_pri",
            "vrrp_notify_priority_changes",
            "notify_priority_changes",
            "startup_script",
            "shutdown_script",
            "startup_script_timeout",
            "shutdown_script_timeout",
        ],
    ),
    (ROUTER, &["virtual_routes", "virtual_rules", "static_rules", "track_group"]),
    (NAMESPACE, &["net_namespace", "net_namespace_ipvs"]),
    (
        LINK,
        &["dont_track_primary", "linkbeat_interfaces", "linkbeat_use_polling", "interface_up_down_delays"],
    ),
    (PLACED, &["use_ipvlan", "use_vmac_addr", "vmac_xmit_base", "vmac_prefix", "vmac_addr_prefix", "vrf"]),
    (CHECKED, &["ha_suspend"]),
    (SYNC, &["lvs_sync_daemon", "lvs_sync_daemon_interface", "lvs_sync_daemon_inteface", "lvs_syncd"]),
    (
        EXPORT,
        &[
            "enable_traps",
            "enable_snmp_checker",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_snmp_vrrp",
            "enable_snmp_keepalived",
            "snmp_socket",
            "enable_dbus",
            "dbus_service_name",
            "dbus_no_interface_name",
            "snmp_name",
        ],
    ),
    (
        FIFO,
        &[
            "notify_fifo_script",
            "vrrp_notify_fifo_script",
            "lvs_notify_fifo",
            "lvs_notify_fifo_script",
            "fifo_write_vrrp_states_on_reload",
        ],
    ),
    (BFD, &["bfd_instance", "track_bfd", "BFD_CHECK"]),
    (
        DPVS,
        &[
            "local_address_group",
            "laddr_group_name",
            "deny_address_group",
            "daddr_group_name",
            "dpdk_interface",
            "establish_timeout",
            "syn_proxy",
            "annonunce_group",
            "announce_group",
        ],
    ),
    (GROUP, &["vrrp_mcast_group4", "vrrp_mcast_group6", "mcast_dst_ip"]),
    (PAUSE, &["garp_group", "vrrp_garp_extra_if", "garp_extra_if"]),
    (
        RULES,
        &[
            "higher_prio_send_advert",
            "lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "vrrp_lower_prio_no_advert",
            "vrrp_check_unicast_src",
            "check_unicast_src",
            "unicast_fault_no_peer",
            "unicast_ttl",
            "old_unicast_checksum",
            "down_timer_adverts",
            "vrrp_down_timer_adverts",
            "track_src_ip",
            "timer_expired_backup",
            "vrrp_delay_after_boot",
            "sorry_server_inhibit",
            "BFD",
        ],
    ),
    (SOURCE, &["bind_port", "bind_if", "bindif"]),
    (
        CHECKER,
        &[
            "FILE_CHECK",
            "regex_no_match",
            "regex_options",
            "regex_stack",
            "regex_min_offset",
            "regex_max_offset",
            "fast_recovery",
            "min_reply_length",
            "max_reply_length",
            "tls_compliant",
            "SSL",
        ],
    ),
    (
        Absent::Nothing,
        &[
            "router_id",
            "instance",
            "child_wait_time",
            "lvs_id",
            "state",
            "enable_script_security",
            "vrrp_skip_check_adv_addr",
            "skip_check_adv_addr",
            "vrrp_iptables",
            "vrrp_ipsets",
            "nftables",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "nftables_ipvs",
            "dynamic_interfaces",
            "default_interface",
            "native_ipv6",
            "debug",
            "max_auto_priority",
            "min_auto_priority_delay",
            "promote_secondaries",
            "umask",
            "random_seed",
            "reload_time_file",
            "reload_repeat",
            "reload_file",
            "reload_check_config",
            "rs_init_notifies",
            "lvs_flush",
            "lvs_flush_onstop",
            "lvs_flush_on_stop",
            "log_all_failures",
            "checker_log_all_failures",
            "process_name",
            "process_names",
            "use_pid_dir",
            "use_symlink_paths",
            "set_supplementary_groups",
            "vrrp_priority",
            "checker_priority",
            "bfd_priority",
            "vrrp_no_swap",
            "checker_no_swap",
            "bfd_no_swap",
            "vrrp_rt_priority",
            "checker_rt_priority",
            "bfd_rt_priority",
            "vrrp_rlimit_rtime",
            "vrrp_rlimit_rttime",
            "checker_rlimit_rttime",
            "bfd_rlimit_rttime",
            "vrrp_cpu_affinity",
            "checker_cpu_affinity",
            "bfd_cpu_affinity",
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
            "kernel_rx_buf_size",
            "json_version",
            "config_save_dir",
            "tmp_config_directory",
            "state_dump_file",
            "stats_dump_file",
            "json_dump_file",
            "data_use_instance",
            "log_unknown_vrids",
            "disable_local_igmp",
            "no_virtual_ipaddress",
            "nat_mask",
            "net_mask",
            "include_check",
            "ip_family",
            "http_protocol",
            "vrrp_min_garp_off",
        ],
    ),
];

/// Words that have a counterpart, for who misspelt one.
const CARRIED: &[&str] = &[
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "delay_loop",
    "delay_before_retry",
    "retry",
    "connect_timeout",
    "warmup",
    "virtualhost",
    "inhibit_on_failure",
    "ops",
    "persistence_timeout",
    "persistence_granularity",
    "persistence_engine",
    "protocol",
    "real_server",
    "sorry_server",
    "sorry_server_lvs_method",
    "quorum",
    "hysteresis",
    "quorum_up",
    "quorum_down",
    "alpha",
    "omega",
    "weight",
    "uthreshold",
    "lthreshold",
    "notify_up",
    "notify_down",
    "connect_ip",
    "connect_port",
    "bindto",
    "url",
    "path",
    "digest",
    "status_code",
    "regex",
    "nb_get_retry",
    "misc_path",
    "misc_timeout",
    "misc_dynamic",
    "user",
    "helo_name",
    "payload",
    "require_reply",
    "enable_sni",
    "sni_name",
    "type",
    "name",
    "host",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "version",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "accept",
    "no_accept",
    "use_vmac",
    "authentication",
    "auth_type",
    "auth_pass",
    "auth_hmac",
    "key",
    "active_key",
    "anti_replay",
    "time_window",
    "mode",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "unicast_peer",
    "unicast_src_ip",
    "mcast_src_ip",
    "track_interface",
    "track_file",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "v3_checksum_as_v2",
    "group",
    "script_user",
    "lvs_timeouts",
    "vrrp_garp_interval",
    "vrrp_gna_interval",
    "notify_fifo",
    "vrrp_notify_fifo",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
    "track_script",
    "track_process",
    "script",
    "interval",
    "timeout",
    "rise",
    "fall",
    "init_fail",
    "process",
    "terminate_delay",
    "param_match",
    "full_command",
    "vrrp_strict",
    "strict_mode",
    "sync_group_tracking_weight",
    "global_tracking",
    "vrrp_version",
    "vrrp_startup_delay",
    "vrrp_garp_master_delay",
    "vrrp_garp_master_repeat",
    "vrrp_garp_master_refresh",
    "vrrp_garp_master_refresh_repeat",
    "vrrp_garp_lower_prio_delay",
    "vrrp_garp_lower_prio_repeat",
    "vrrp_min_garp",
    "file",
    "sh-port",
    "sh-fallback",
    "mh-port",
    "mh-fallback",
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
];

/// Words of which a block may have several, or which have a rule of their own.
const SEVERAL: &[&str] = &[
    "real_server",
    "sorry_server",
    "notify_up",
    "notify_down",
    "url",
    "host",
    "group",
    "status_code",
    "alpha",
    "omega",
    "inhibit_on_failure",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "unicast_peer",
    "unicast_src_ip",
    "mcast_src_ip",
    "track_interface",
    "track_file",
    "track_script",
    "track_process",
    "authentication",
    "auth_hmac",
    "key",
    "script_user",
    "user",
];

/// Whether the last value of this word is the one that counts.
pub(super) fn is_said_once(word: &str) -> bool {
    static ONCE: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let words = CARRIED.iter().copied().filter(|word| !SEVERAL.contains(word));
        words
            .filter(|word| {
                word.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
            })
            .collect()
    });
    ONCE.contains(word)
}

/// Words of blocks that mean something outside of them, too.
const NAMES: &[&str] = &["track_file"];

/// What becomes of a word; `None`: keepalived does not know it, or not here.
pub(super) fn absent(word: &str) -> Option<Absent> {
    static BY_WORD: LazyLock<HashMap<&str, Absent>> = LazyLock::new(|| {
        let words = WORDS.iter().flat_map(|(absent, words)| words.iter().map(move |word| (*word, *absent)));
        words.collect()
    });
    BY_WORD.get(word).copied()
}

/// The word that somebody meant.
pub(super) fn meant(word: &str) -> Option<&'static str> {
    let all = TOP.iter().chain(CARRIED).chain(WORDS.iter().flat_map(|(_, words)| *words));
    weir_config::nearest(word, all.copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_either_has_a_counterpart_or_has_none() {
        for word in CARRIED.iter().filter(|word| !["user", "type"].contains(word)) {
            assert_eq!(absent(word), None, "{word}");
        }
        let all: Vec<&str> = WORDS.iter().flat_map(|(_, words)| *words).copied().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "a word stands twice");
        assert_eq!(meant("weigth"), Some("weight"));
        assert_eq!(meant("connetc_port"), Some("connect_port"));
        assert_eq!(meant("SMTP_CHEKC"), Some("SMTP_CHECK"));
        assert_eq!(meant("vvrp_script"), Some("vrrp_script"));
        assert_eq!(meant("unheard-of"), None);
    }
}
