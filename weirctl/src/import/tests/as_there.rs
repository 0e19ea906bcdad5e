//! What keepalived makes of lines that are odd, wrong or said twice: as keepalived 2.2.7 says of them with `--config-test`.

use super::*;

/// An instance with these lines, and these blocks before it.
fn instance(before: &str, lines: &str) -> Made {
    imported(&format!(
        "{before}vrrp_instance V {{\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {{\n 192.0.2.1/24\n }}\n{lines}}}\n"
    ))
    .unwrap()
}

fn vrrp(made: &Made) -> weir_config::model::Vrrp {
    model(made).vrrp[0].clone()
}

const SCRIPTS: &str = "vrrp_script s {\n script /bin/true\n weight 10\n}\nvrrp_script t {\n script /bin/false\n}\n\
    vrrp_track_file f {\n file /run/f\n}\nvrrp_track_process p {\n process bird\n weight 3\n weight 4\n}\n";

#[test]
fn master_without_a_priority_is_the_owner() {
    for (lines, priority, preempt) in [
        (" state MASTER\n nopreempt\n", 255, true),
        (" state MASTER\n state BACKUP\n nopreempt\n", 255, true),
        (" state BACKUP\n nopreempt\n", 100, false),
        (" state MASTER\n priority 300\n", 100, true),
        (" state MASTER\n priority 5\n", 5, true),
        (" priority 255\n nopreempt\n", 255, true),
    ] {
        let made = instance("", lines);
        let vrrp = vrrp(&made);
        assert_eq!((vrrp.priority, vrrp.preempt), (priority, preempt), "{lines}");
        assert_eq!(
            made.report.contains("with MASTER keepalived takes 255"),
            priority == 255 && lines.contains("MASTER")
        );
    }
}

#[test]
fn names_stand_once_and_alone() {
    let of = |head: &str, address: &str| {
        format!(
            "{head} {{\n interface eth0\n virtual_router_id {address}\n virtual_ipaddress {{\n 192.0.2.{address}\n }}\n}}\n"
        )
    };
    let text = of("vrrp_instance A", "1")
        + &of("vrrp_instance A", "2")
        + &of("vrrp_instance B C", "3")
        + &of("vrrp_instance", "4")
        + &of("vrrp_instance D", "5")
        + "vrrp_sync_group G {\n group {\n A\n }\n group {\n D\n }\n}\nvrrp_sync_group G {\n group {\n D\n }\n}\nvrrp_sync_group {\n group {\n D\n }\n}\n";
    let made = imported(&text).unwrap();
    let model = model(&made);
    let names: Vec<(&str, Option<&str>)> =
        model.vrrp.iter().map(|it| (it.name.as_str(), it.sync_group.as_deref())).collect();
    assert_eq!(names, [("A", Some("G")), ("D", None)]);
    contains(&made.report, "line 8: `vrrp_instance`: an instance of this name stands before it");
    contains(&made.report, "line 15, line 22: `vrrp_instance`: it takes one name");
    contains(&made.report, "line 40: `group`: a line of this word stands before it");
    contains(&made.report, "line 44: `vrrp_sync_group`: a group of this name stands before it");
    contains(&made.report, "line 49: `vrrp_sync_group`: it takes one name");
}

#[test]
fn what_is_tracked_wrongly_is_not_tracked() {
    let lines = " track_script {\n s weight=0\n t wait 5\n s weight\n s weight 20 noreverse\n s weight 30\n t weight 999\n }\n \
        track_interface {\n eth1 weight 5\n eth1\n eth2 wight 5\n eth0 weight 5\n }\n track_process {\n p\n p\n }\n";
    let made = instance(SCRIPTS, lines);
    let weights: Vec<Option<i16>> = vrrp(&made).track.iter().map(|it| it.weight).collect();
    assert_eq!(weights, [Some(20), None, Some(5), Some(3)], "{}", made.text);
    contains(&made.report, "`s`: keepalived does not know `weight=0` here and ignores the line");
    contains(&made.report, "`t`: keepalived does not know `wait` here");
    contains(&made.report, "`s`: no weight stands behind `weight`");
    contains(&made.report, "`s`: it is tracked already");
    contains(&made.report, "`t`: its weight is no number from -253 to 253");
    contains(&made.report, "`eth1`: it is tracked already");
    contains(&made.report, "`eth0`: the link of the own interface counts anyhow");
    contains(&made.report, "`weight`: a line of this word stands before it");
    lacks(&made.text, "name = \"eth2\"");
}

#[test]
fn weights_count_in_a_sync_group_that_asks_for_them() {
    let lines = " track_script {\n s\n t\n }\n track_interface {\n eth1 weight 5\n }\n track_file {\n f\n }\n track_process {\n p\n }\n";
    let group = |word: &str| {
        format!(
            "{SCRIPTS}vrrp_sync_group G {{\n group {{\n V\n }}\n{word} track_script {{\n s weight 7\n }}\n}}\n"
        )
    };
    let weights = |made: &Made| -> Vec<Option<i16>> { vrrp(made).track.iter().map(|it| it.weight).collect() };
    let made = instance(&group(""), lines);
    assert_eq!(weights(&made), [None, None, None, Some(3), Some(7)], "{}", made.text);
    contains(&made.report, "`s`: keepalived ignores what has a weight in a member of a sync group");
    contains(&made.report, "`eth1`: in a sync group keepalived ignores its weight");
    contains(&made.report, "`f`: in a sync group keepalived ignores its weight");
    for word in [" sync_group_tracking_weight\n", " global_tracking\n"] {
        let made = instance(&group(word), lines);
        assert_eq!(weights(&made), [Some(10), None, Some(5), Some(1), Some(3), Some(7)], "{}", made.text);
    }
}

#[test]
fn of_programs_the_first_counts() {
    let made = instance(
        "vrrp_sync_group G {\n group {\n V\n }\n notify /bin/a\n notify /bin/b\n}\n",
        " notify_master /bin/a\n notify_master /bin/b\n notify_backup '/bin/c d'\n notify_fault '/bin/e' f\n",
    );
    contains(&made.text, "notify_master = [\"/bin/a\"]");
    contains(&made.text, "notify_backup = [\"/bin/c\", \"d\"]");
    contains(&made.text, "notify_fault = [\"/bin/e\"]");
    contains(&made.text, "notify = [\"/bin/a\"]");
    lacks(&made.text, "/bin/b");
    lacks(&made.report, "the last one counts");
    let made =
        imported(&with(" quorum_up /bin/a\n quorum_up /bin/b", " notify_down /bin/c\n notify_down /bin/b"))
            .unwrap();
    lacks(&made.text, "/bin/b");
    model(&made);
}

#[test]
fn strict_mode_is_carried_as_what_it_does() {
    let authentication = " authentication {\n auth_type PASS\n auth_pass x\n }\n preempt_delay 5\n";
    let made = instance("global_defs {\n vrrp_strict\n}\n", authentication);
    let vrrp = vrrp(&made);
    assert!(!vrrp.accept && vrrp.authentication.is_none() && vrrp.preempt_delay.is_zero(), "{}", made.text);
    contains(&made.report, "`authentication`: keepalived leaves it away in strict mode");
    let made =
        instance("global_defs {\n vrrp_strict on\n}\n", &format!("{authentication} strict_mode off\n"));
    assert!(self::vrrp(&made).accept && self::vrrp(&made).authentication.is_some());
    let made = instance("", " strict_mode\n version 3\n accept\n unicast_peer {\n 192.0.2.9\n }\n");
    assert!(self::vrrp(&made).accept);
    contains(&made.report, "`unicast_peer`: keepalived starts no instance with peers in strict mode");
}

#[test]
fn words_of_an_instance_are_read_as_there() {
    let made = instance(
        "",
        " authentication {\n auth_type pass\n auth_pass x\n }\n version 2\n version 3\n nopreempt off\n mcast_src_ip 192.0.2.5/28\n unicast_peer {\n }\n interface\n",
    );
    let vrrp = vrrp(&made);
    assert!(vrrp.authentication.is_none() && !vrrp.preempt && vrrp.version == 2, "{}", made.text);
    contains(&made.text, "source_address = \"192.0.2.5\"");
    contains(&made.report, "`auth_type`: keepalived knows PASS and AH, in capitals");
    contains(&made.report, "`unicast_peer`: no peer is left in it");
    contains(&made.report, "`interface`: it names no interface");
    // A length that nobody says is a guess.
    let made = imported("vrrp_instance V {\n interface eth0\n virtual_router_id 7\n unicast_src_ip 10.0.0.5\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n").unwrap();
    contains(&made.text, "FILL IN: the length of 10.0.0.5/24 is a guess");
    // Nothing of an instance without an address.
    let made = imported(
        "vrrp_instance V {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 9.x.x.1\n }\n}\n",
    )
    .unwrap();
    contains(&made.report, "`9.x.x.1`: this is no address");
    contains(&made.report, "`vrrp_instance`: it has no virtual address");
    lacks(&made.report, "FILL IN");
    lacks(&made.text, "eth0");
}

#[test]
fn two_instances_of_ipv6_get_an_address_each() {
    let of = |name: &str| {
        format!(
            "vrrp_instance {name} {{\n interface {name}\n virtual_router_id 15\n virtual_ipaddress {{\n fd00:{name}::1/64\n }}\n}}\n"
        )
    };
    let made = imported(&(of("a") + &of("b"))).unwrap();
    assert_eq!(model(&made).vrrp.len(), 2, "{}", made.report);
    contains(&made.text, "fe80::5:f");
    contains(&made.text, "fe80::6:f");
}

#[test]
fn virtual_servers_are_read_as_there() {
    let real = " real_server 10.0.0.11 80 {\n }\n real_server 10.0.0.12 99999 {\n }\n real_server 10.0.0.13 80 {\n weight 70000\n }\n";
    let made =
        imported(&format!("virtual_server 192.0.2.1 80 {{\n weight 3\n delay_loop 0\n retry 0\n{real}}}\n"))
            .unwrap();
    contains(&made.text, "protocol = \"udp\"");
    contains(&made.report, "`virtual_server`: no `protocol` is said, and keepalived takes UDP then");
    contains(&made.report, "`real_server 10.0.0.12 99999`: its port is none");
    contains(&made.report, "`delay_loop`: `0` is no number");
    contains(&made.report, "`retry`: `0` is no number");
    let weights: Vec<u32> =
        model(&made).virtual_servers[0].real_servers.iter().map(|it| u32::from(it.weight)).collect();
    assert_eq!(weights, [3, 65_535]);
    let made =
        imported(&with(" quorum 9\n hysteresis 7", " weight 2\n HTTP_GET {\n url {\n digest x\n }\n }"))
            .unwrap();
    contains(&made.report, "`HTTP_GET`: keepalived ignores a check without a `url` that has a `path`");
    contains(&made.report, "`quorum`: the weights add up to 2");
    contains(&made.text, "quorum = 2");
    contains(&made.text, "hysteresis = 1");
    lacks(&made.text, "health_check");
    let made = imported("virtual_server 192.0.2.1 80 {\n protocol XYZ\n}\n").unwrap();
    contains(&made.report, "`protocol`: keepalived knows TCP, UDP and SCTP, and ignores this line");
    contains(&made.text, "protocol = \"udp\"");
    let made =
        imported("virtual_server 192.0.2.1 0 {\n protocol TCP\n real_server 10.0.0.11 0 {\n }\n}\n").unwrap();
    contains(&made.text, "persistence_timeout = 360");
    contains(&made.report, "its port is 0, and keepalived makes it persistent");
    model(&made);
}

#[test]
fn other_blanks_than_those_of_ascii_are_letters() {
    let made = imported("vrrp_instance V {\n\u{3000}interface eth9\n interface\u{a0}eth8\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n").unwrap();
    contains(&made.text, "port = \"lan\"");
    contains(&made.report, "was `interface` meant?");
    let bom =
        lexer::read_text(Path::new("k"), b"\xef\xbb\xbf! caf\xe9\nvrrp_instance V {\n}\n", None).unwrap();
    assert_eq!(bom.notes.len(), 2);
    let made = imported("\u{feff}vrrp_instance V {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n").unwrap();
    contains(&made.report, "a mark of its byte order");
    model(&made);
}

#[test]
fn keys_of_auth_hmac_are_the_bytes_that_stand_there() {
    let phrase = "  a passphrase with blanks around it and within  ";
    let made = instance(
        "",
        &format!(" auth_hmac {{\n key 3 \"{phrase}\"\n key 3 hex:{}\n active_key 3\n }}\n", "5a".repeat(32)),
    );
    let keys = &vrrp(&made).auth_hmac.unwrap().keys;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].secret, phrase.as_bytes());
    contains(&made.report, "`key`: a key of this id stands before it");
    lacks(&made.report, "passphrase");
}

#[test]
fn the_name_of_the_process_is_known_to_definitions() {
    let made = instance("instance left\nglobal_defs {\n vrrp_notify_fifo /run/${_INSTANCE}.fifo\n}\n", "");
    contains(&made.text, "vrrp_notify_fifo = \"/run/left.fifo\"");
}
