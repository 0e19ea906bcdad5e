//! What keepalived's words are in weir's file; above all those that mean something else in the two.

use weir_config::model::{Config, Forwarding, Scheduler};

use super::*;

fn of(server: &str, real: &str) -> (Made, Config) {
    let made = imported(&with(server, real)).unwrap();
    let model = model(&made);
    (made, model)
}

#[test]
fn without_lb_kind_and_lb_algo_it_is_nat_and_wlc() {
    let made = imported("virtual_server 192.0.2.1 80 {\n real_server 10.0.0.11 80 {\n }\n}\n").unwrap();
    let server = &model(&made).virtual_servers[0];
    assert_eq!(server.scheduler, Scheduler::Wlc);
    assert_eq!(server.real_servers[0].forwarding, Forwarding::Nat);
    contains(&made.text, "# as keepalived without lb_kind; weir's default is dr");
}

#[test]
fn words_that_keepalived_ignores_are_told() {
    for kind in ["dr", "FNAT"] {
        let made =
            imported(&format!("virtual_server 192.0.2.1 80 {{\n lb_kind {kind}\n lb_algo loadbalance\n}}\n"))
                .unwrap();
        contains(&made.text, "forwarding = \"nat\"");
        contains(&made.report, &format!("keepalived does not know `{kind}` and takes NAT"));
        contains(&made.report, "keepalived does not know `loadbalance` and takes wlc");
    }
}

#[test]
fn direct_routing_and_tunnels_keep_the_port() {
    for kind in ["DR", "TUN"] {
        let text = format!(
            "virtual_server 192.0.2.1 80 {{\n lb_kind {kind}\n real_server 10.0.0.11 8080 {{\n }}\n}}\n"
        );
        let made = imported(&text).unwrap();
        model(&made);
        lacks(&made.text, "port = 8080");
        contains(&made.report, &format!("{kind} does not change ports"));
    }
}

#[test]
fn a_virtual_server_of_every_port_keeps_the_port() {
    let made = imported("virtual_server 192.0.2.1 {\n lb_kind NAT\n persistence_timeout 50\n real_server 10.0.0.11 81 {\n TCP_CHECK {\n }\n }\n sorry_server 10.0.0.12 82\n}\n").unwrap();
    let server = &model(&made).virtual_servers[0];
    assert_eq!(server.real_servers[0].health_checks.len(), 1);
    contains(&made.text, "  port = 81");
    contains(&made.report, "a connection keeps the one that its client chose, in LVS too: 81 was left out");
    contains(&made.report, "in LVS too: 82 was left out");
}

#[test]
fn real_servers_on_the_director_are_left_out_alone() {
    let made = imported("virtual_server 192.0.2.1 80 {\n real_server 127.0.0.1 80 {\n }\n real_server 10.0.0.11 80 {\n }\n}\n").unwrap();
    model(&made);
    contains(&made.report, "1 virtual servers, 1 real servers");
    contains(&made.report, "line 2: `real_server 127.0.0.1 80`: weir refuses it");
}

#[test]
fn networks_are_made_up_so_that_all_are_hosts() {
    for (vip, real) in
        [("172.16.5.0", "172.16.5.10"), ("172.16.5.255", "172.16.5.10"), ("172.16.5.9", "172.16.5.0")]
    {
        let made =
            imported(&format!("virtual_server {vip} 53 {{\n real_server {real} 53 {{\n }}\n}}\n")).unwrap();
        model(&made);
        contains(&made.report, "1 virtual servers, 1 real servers");
        lacks(&made.text, "LEFT OUT:");
    }
}

#[test]
fn codes_of_several_lines_add_up() {
    let (made, _) = of("", "HTTP_GET {\n url {\n path /\n status_code 200\n status_code 301-302\n }\n}");
    contains(&made.text, "status = [200, \"301-302\"]");
}

#[test]
fn times_of_checks_are_keepaliveds() {
    let (made, _) = of("", "TCP_CHECK {\n}");
    for line in ["interval = 60.0", "fall = 2", "retry_interval = 1.0", "timeout = 5.0"] {
        contains(&made.text, line);
    }
    contains(&made.text, "# as keepalived without delay_loop; weir's default is 2 s");
    let (made, _) =
        of("delay_loop 6", "HTTP_GET {\n url {\n path /\n }\n nb_get_retry 3\n connect_timeout 3\n}");
    for line in [
        "interval = 6.0",
        "fall = 4",
        "retry_interval = 3.0",
        "connect_timeout = 3.0",
        "response_timeout = 3.0",
        "timeout = 6.0",
    ] {
        contains(&made.text, line);
    }
    // A word that TCP_CHECK does not have.
    let (made, _) = of("delay_loop 6", "TCP_CHECK {\n nb_get_retry 3\n retry 4\n}");
    contains(&made.text, "fall = 5");
    contains(&made.report, "`nb_get_retry`: keepalived does not know it in TCP_CHECK");
    let (made, _) = of("delay_loop 6", "MISC_CHECK {\n misc_path \"/bin/check -a 'b c'\"\n}");
    contains(&made.text, "fall = 1");
    contains(&made.text, "command = [\"/bin/check\", \"-a\", \"b c\"]");
    let (made, _) = of("delay_loop 6", "DNS_CHECK {\n type a\n name www.example.com\n}");
    contains(&made.text, "fall = 4");
    lacks(&made.text, "retry_interval");
}

#[test]
fn inner_times_go_before_outer_ones() {
    let (made, _) =
        of("delay_loop 6\nretry 5\nconnect_timeout 9", "retry 2\nTCP_CHECK {\n connect_timeout 4\n}");
    for line in ["interval = 6.0", "fall = 3", "timeout = 4.0"] {
        contains(&made.text, line);
    }
}

#[test]
fn persistence_without_a_value_is_six_minutes() {
    contains(&of("persistence_timeout", "").0.text, "persistence_timeout = 360");
    contains(
        &of("persistence_timeout 50\npersistence_granularity 255.255.255.0", "").0.text,
        "persistence_netmask = 24",
    );
    lacks(&of("persistence_timeout 0", "").0.text, "persistence_timeout =");
}

#[test]
fn calls_of_sip_are_kept_together() {
    let text = "virtual_server 192.0.2.1 5060 {\n protocol UDP\n lb_kind NAT\n ops\n persistence_engine sip\n \
                persistence_timeout 300\n real_server 10.0.0.11 5060 {\n }\n}\n";
    let made = imported(text).unwrap();
    assert!(model(&made).virtual_servers[0].keeps_calls());
    let made = imported(&text.replace("engine sip", "engine other")).unwrap();
    assert!(!model(&made).virtual_servers[0].keeps_calls());
    contains(&made.report, "the one engine is sip");
    // Without persistence it means nothing.
    let made = imported(&text.replace("persistence_timeout 300\n", "")).unwrap();
    assert!(!model(&made).virtual_servers[0].keeps_calls());
    let rules = "-A -u 192.0.2.1:5060 -s rr -p 60 --pe sip -o\n-a -u 192.0.2.1:5060 -r 10.0.0.11:5060 -m\n";
    let made = ipvsadm::import(Path::new("rules"), rules.as_bytes(), &[], &Book).unwrap();
    assert!(model(&made).virtual_servers[0].keeps_calls());
}

#[test]
fn programs_need_a_shell_or_a_path() {
    let (made, _) =
        of("quorum_up \"ip addr add 192.0.2.1/32 dev lo | cat\"", "MISC_CHECK {\n misc_path check.sh -x\n}");
    contains(&made.text, "quorum_up = [\"/bin/sh\", \"-c\", \"ip addr add 192.0.2.1/32 dev lo | cat\"]");
    contains(&made.text, "command = [\"/usr/bin/env\", \"check.sh\"]");
    contains(&made.report, "words behind the first were left out");
    contains(&made.report, "`quorum_up`: what it does takes root");
    lacks(&made.report, "`misc_path`: what it does takes root");
    let made = imported(&format!("global_defs {{\n script_user root\n}}\n{}", with("", ""))).unwrap();
    contains(&made.report, "weir runs no programs as root");
    lacks(&made.text, "\"root\"");
}

#[test]
fn checks_that_all_real_servers_share_stand_once() {
    let check = "TCP_CHECK {\n connect_timeout 3\n}";
    let text = format!(
        "virtual_server 192.0.2.1 80 {{\n lb_kind DR\n real_server 10.0.0.11 80 {{\n{check}\n}}\n real_server 10.0.0.12 80 {{\n{check}\n}}\n}}\n"
    );
    let made = imported(&text).unwrap();
    assert_eq!(made.text.matches("health_check]").count(), 1, "{}", made.text);
    let text = text.replacen("connect_timeout 3", "connect_timeout 4", 1);
    assert_eq!(imported(&text).unwrap().text.matches("health_check]").count(), 2);
}

#[test]
fn several_pages_are_one_check_and_several_hosts_several() {
    let (made, model) = of(
        "",
        "SSL_GET {\n url {\n path /a\n status_code 200 301-302\n }\n url {\n path b\n digest 0123456789abcdef0123456789abcdef\n }\n}",
    );
    assert_eq!(model.virtual_servers[0].real_servers[0].health_checks.len(), 1);
    contains(&made.text, "path = \"/b\"");
    let (_, model) =
        of("virtualhost a", "HTTP_GET {\n url {\n path /a\n }\n url {\n path /b\n virtualhost b\n }\n}");
    assert_eq!(model.virtual_servers[0].real_servers[0].health_checks.len(), 2);
}

#[test]
fn a_group_is_a_virtual_server_for_each_address() {
    let text = "virtual_server_group G {\n 192.0.2.1 80\n 192.0.2.10-12 443\n 2001:db8::1 80\n fwmark 7\n}\n\
        virtual_server group G {\n lb_kind TUN\n real_server 10.0.0.11 80 {\n }\n}\n";
    let made = imported(text).unwrap();
    let model = model(&made);
    assert_eq!(model.virtual_servers.len(), 6, "{}", made.text);
    contains(&made.text, "FILL IN: netfilter's rules that give the mark 7");
}

#[test]
fn a_mark_has_to_be_filled_in_and_its_checks_have_a_port() {
    let text =
        "virtual_server fwmark 3 {\n lb_kind DR\n real_server 10.0.0.11 80 {\n TCP_CHECK {\n }\n }\n}\n";
    let made = imported(text).unwrap();
    let model = model(&made);
    assert_eq!(model.virtual_servers[0].mark, Some(3));
    assert_eq!(model.virtual_servers[0].real_servers[0].health_checks.len(), 1);
    contains(&made.text, "port = 80");
    contains(&made.report, "FILL IN: netfilter's rules that give the mark 3");
}

#[test]
fn a_group_that_nothing_uses_is_told() {
    let made =
        imported("virtual_server_group 192.0.2.1 80 {\n lb_algo rr\n real_server 10.0.0.11 80 {\n }\n}\n")
            .unwrap();
    assert!(!made.is_something);
    contains(&made.report, "nothing that weir serves can be made of it");
    contains(&made.report, "line 1: `virtual_server_group`: no virtual server is of this group");
}

#[test]
fn what_weir_refuses_is_left_out_with_its_sentence() {
    // The virtual server as its own real server, another family by NAT.
    let text = "virtual_server 192.0.2.1 80 {\n lb_kind NAT\n real_server 192.0.2.1 80 {\n }\n real_server 2001:db8::1 80 {\n }\n \
        real_server 10.0.0.11 80 {\n }\n sorry_server 127.0.0.1 80\n}\nvirtual_server 192.0.2.2 {\n real_server 10.0.0.11 {\n }\n}\n\
        virtual_server 192.0.2.1 80 {\n real_server 10.0.0.12 80 {\n }\n}\n";
    let made = imported(text).unwrap();
    model(&made);
    contains(&made.report, "2 virtual servers, 2 real servers");
    contains(&made.report, "line 3: `real_server 192.0.2.1 80`: weir refuses it: ");
    contains(&made.report, "different address family is allowed only for tunneling servers");
    contains(&made.report, "a sorry server on the director itself");
    contains(&made.report, "the same virtual server as `virtual_server 192.0.2.1 80`");
}

#[test]
fn a_key_that_weir_refuses_goes_alone_where_the_rest_is_of_use() {
    let text = with("ops", "SMTP_CHECK {\n helo_name \"a b\"\n}").replace("weight", "");
    let made = imported(&text).unwrap();
    let server = &model(&made).virtual_servers[0];
    assert!(!server.one_packet && server.real_servers[0].health_checks.len() == 1, "{}", made.text);
    contains(
        &made.report,
        "line 3: `virtual_server 192.0.2.1 80`: `one_packet` of it: weir refuses it: one-packet scheduling is only for UDP",
    );
    contains(&made.report, "`helo` of it: weir refuses it: ");
    contains(&made.text, "# left out: one_packet: weir refuses it");
}

#[test]
fn what_weir_names_one_at_a_time_is_left_out_as_well() {
    // A page of each host is a check, a real server has eight, and weir's parser names the first that is too many.
    let urls: String = (0..60).map(|host| format!("url {{\n path /\n virtualhost h{host}\n}}\n")).collect();
    let (made, model) = of("", &format!("HTTP_GET {{\n{urls}}}"));
    assert_eq!(model.virtual_servers[0].real_servers[0].health_checks.len(), 8);
    assert_eq!(made.text.matches("LEFT OUT").count(), 52, "{}", made.text);
}

#[test]
fn what_weir_still_refuses_is_said() {
    // No table is left out for a port.
    let made =
        imported_for(&with("", ""), &["eth0=0000:03:00.0,192.0.2.2/24", "eth1=0000:03:00.0"], None).unwrap();
    let Err(report) = weir_config::parse("weir.toml", &made.text) else { panic!("{}", made.text) };
    contains(&made.text, "# FILL IN: weir refuses 1 things of this file");
    contains(
        &made.report,
        &format!("weir refuses the file as it is:\n  {}\n", report.problems()[0].sentence()),
    );
}

#[test]
fn a_file_of_some_lines_does_not_become_millions_of_tables() {
    let ranges: String = (0..400)
        .map(|it| format!("10.{}.{}.0-10.{}.{}.255 80\n", it / 64, it % 64 * 4, it / 64, it % 64 * 4 + 3))
        .collect();
    let real: String = (1..250).map(|it| format!("real_server 192.0.2.{it} 80 {{\n}}\n")).collect();
    let text = format!(
        "virtual_server_group G {{\n x\n {ranges}}}\nvirtual_server group G {{\n weigth 1\n{real}}}\n\
         virtual_server group G {{\n{real}}}\nvirtual_server 192.0.2.250 80 {{\n}}\n"
    );
    let mut source = lexer::read_text(Path::new("k"), text.as_bytes(), None).unwrap();
    let tree = blocks::tree(&mut source).unwrap();
    let mut map = Map::default();
    map.whole(&tree, &mut Item::new("", String::new(), None));
    let tables: usize = map.tables.servers.iter().map(Item::tables).sum();
    assert!(map.tables.servers.len() == 1002 && tables < 251_000, "{} {tables}", map.tables.servers.len());
    let told: Vec<&str> = map.notes.iter().map(|note| note.text.as_str()).collect();
    let limit = "a file gets at most 250000 virtual and real servers with their checks";
    for (words, many) in [
        (format!("`virtual_server`: {limit}: virtual servers from 10.0.3.232 80 on are left out"), 1),
        (format!("`virtual_server group G`: {limit}: virtual servers from 10.0.0.0 80 on are left out"), 1),
        ("`x`: this is no address, and no range of at most 1024".to_owned(), 1),
    ] {
        assert_eq!(told.iter().filter(|it| **it == words).count(), many, "{words} in {told:?}");
    }
    // What is to be known stands at the first.
    let remarks: Vec<usize> = map.tables.servers.iter().map(|it| it.remarks.list.len()).collect();
    assert!(remarks[0] > 0 && remarks[1] == 0, "{remarks:?}");
}

#[test]
fn what_would_take_too_long_to_leave_out_stays_and_is_said() {
    let mut items = vec![Item::new("[[virtual_server]]", "x".to_owned(), None)];
    let (_, refused) = leave_refused(&[], &mut items, &mut Vec::new(), 0);
    assert!(!refused.is_empty() && items[0].refused.is_none(), "{refused:?}");
    leave_refused(&[], &mut items, &mut Vec::new(), PARSED_MAX);
    assert!(items[0].refused.is_some());
}

#[test]
fn a_second_group_or_sorry_server_is_left_out_with_a_sentence() {
    let text = "virtual_server_group G {\n 192.0.2.1 80\n}\nvirtual_server_group G {\n 192.0.2.2 80\n}\n\
        virtual_server group G {\n sorry_server 10.0.0.20 80\n sorry_server 10.0.0.21 80\n}\n";
    let made = imported(text).unwrap();
    let model = model(&made);
    assert_eq!(model.virtual_servers.len(), 1);
    contains(&made.text, "address = \"192.0.2.1\"");
    contains(&made.text, "address = \"10.0.0.20\"");
    contains(&made.report, "line 4: `virtual_server_group`: a group of this name stands before it");
    contains(&made.report, "line 9: `sorry_server`: a virtual server has one sorry server");
}

const INSTANCE: &str = "vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {\n 192.0.2.1/24 dev eth0\n }\n";

fn instance(lines: &str) -> (Made, Config) {
    let made = imported(&format!("{INSTANCE}{lines}\n}}\n")).unwrap();
    let model = model(&made);
    (made, model)
}

#[test]
fn an_instance_has_keepaliveds_defaults() {
    let (made, model) = instance("");
    let vrrp = &model.vrrp[0];
    assert!(!vrrp.virtual_mac && vrrp.preempt && vrrp.priority == 100 && vrrp.version == 2);
    contains(&made.report, "has no virtual servers. weir owns its ports");
    contains(&made.report, "FILL IN");
    contains(&made.text, "is made up; write this director's own address there");
    let (_, model) = instance("use_vmac");
    assert!(model.vrrp[0].virtual_mac);
    let (_, model) = instance("state SLAVE\nnopreempt\npriority 150\nadvert_int 3");
    assert!(!model.vrrp[0].preempt && model.vrrp[0].advertisement_interval.as_secs() == 3);
}

#[test]
fn the_state_master_takes_nopreempt_back() {
    let (made, model) = instance("state MASTER\nnopreempt\npreempt_delay 5");
    assert!(model.vrrp[0].preempt && model.vrrp[0].preempt_delay.is_zero());
    contains(&made.report, "`nopreempt`: keepalived takes it back where the state is MASTER");
}

#[test]
fn a_long_password_is_cut_and_not_told() {
    let (made, _) = instance("authentication {\n auth_type PASS\n auth_pass secretsecret\n}");
    contains(&made.text, "password = \"secretse\"");
    contains(&made.report, "keepalived uses its first 8 bytes");
    lacks(&made.report, "secret");
}

#[test]
fn trailers_are_carried_and_their_keys_not_told() {
    let path = std::env::temp_dir().join(format!("weirctl-import-key-{}", std::process::id()));
    std::fs::write(&path, format!("hex:{}\n", "5a".repeat(32))).unwrap();
    let lines = format!(
        "authentication {{\n auth_type PASS\n auth_pass x\n}}\nauth_hmac {{\n key 1 file:{}\n key 2 too-short-a-secret\n key 7 \"a phrase of more than thirty-two bytes\"\n \
         active_key 7\n anti_replay monotonic\n time_window 9\n}}",
        path.display()
    );
    let (made, model) = instance(&lines);
    std::fs::remove_file(&path).unwrap();
    let hmac = model.vrrp[0].auth_hmac.as_deref().unwrap();
    assert_eq!(hmac.keys.iter().map(|key| key.id).collect::<Vec<_>>(), [1, 7]);
    assert_eq!((&hmac.keys[0].secret, hmac.active_key, hmac.time_window), (&vec![0x5a; 32], 7, None));
    contains(&made.report, "`authentication`: keepalived leaves it away where there is an auth_hmac");
    contains(&made.report, "`time_window`: clocks are not compared");
    contains(&made.report, "`key`: its value was read from the file");
    contains(&made.report, "`key`: a key is 32 to 64 bytes");
    lacks(&made.report, "secret");
    lacks(&made.report, "phrase");
    let (made, model) = instance("auth_hmac {\n key 1 file:/nowhere/key\n active_key 1\n}");
    assert_eq!(model.vrrp[0].auth_hmac, None);
    contains(&made.report, "`auth_hmac`: it needs keys of 32 to 64 bytes and the active_key among them");
    contains(&made.report, "/nowhere/key can't be read here");
}

#[test]
fn versions_times_and_families_are_made_to_fit() {
    let (made, model) = instance("advert_int 0.4");
    assert_eq!(model.vrrp[0].advertisement_interval.as_secs(), 1);
    contains(&made.report, "version 2 counts whole seconds");
    let made = imported(&format!("global_defs {{\n vrrp_version 3\n vrrp_garp_master_delay 7\n}}\n{INSTANCE} authentication {{\n auth_type PASS\n auth_pass x\n }}\n}}\n")).unwrap();
    contains(&made.text, "version = 3");
    contains(&made.text, "garp_master_delay = 7.0");
    contains(&made.report, "version 3 has no authentication");
    self::model(&made);
    let made = imported("vrrp_instance V6 {\n interface eth0\n virtual_router_id 6\n virtual_ipaddress {\n 2001:db8::1/64\n 192.0.2.1\n }\n}\n").unwrap();
    contains(&made.text, "addresses = [\"fe80::5:6\", \"2001:db8::1\"]");
    contains(&made.report, "an instance has addresses of one family");
    self::model(&made);
}

#[test]
fn groups_peers_and_trackers_are_carried() {
    let text = format!(
        "vrrp_sync_group G {{\n group {{\n VI_1\n }}\n notify_master /bin/x\n sync_group_tracking_weight\n}}\nvrrp_track_file f {{\n file /run/f\n weight 5\n}}\n{INSTANCE} unicast_src_ip 192.0.2.5\n \
        unicast_peer {{\n 192.0.2.6\n }}\n track_interface {{\n eth0\n eth1 weight -20\n }}\n track_file {{\n f weight 2\n }}\n track_script {{\n chk\n }}\n}}\n"
    );
    let made = imported(&text).unwrap();
    let vrrp = &model(&made).vrrp[0];
    assert_eq!(vrrp.sync_group.as_deref(), Some("G"));
    assert_eq!(vrrp.unicast_peers.len(), 1);
    assert_eq!(vrrp.track.len(), 2, "{}", made.text);
    contains(&made.text, "192.0.2.5/24");
    contains(&made.text, "[[vrrp_sync_group]]\nname = \"G\"\nnotify_master = [\"/bin/x\"]");
    contains(&made.text, "source_address = \"192.0.2.5\"");
    contains(&made.report, "`chk`: no vrrp_script of this name is there");
}

#[test]
fn scripts_and_processes_are_tracked() {
    let blocks = "vrrp_script a {\n script \"/bin/check x\"\n interval 5\n timeout 3\n fall 2\n rise 4\n weight -20\n user web www\n init_fail\n}\n\
        vrrp_script b {\n script \"killall -0 bird\"\n interval 2\n}\nvrrp_script none {\n script /bin/x\n}\n\
        vrrp_track_process c {\n process /usr/sbin/named -f\n quorum 2\n delay 5\n weight 7\n}\n";
    let text = format!(
        "{blocks}{INSTANCE} track_script {{\n a\n b weight 3\n }}\n track_process {{\n c weight 9\n d\n }}\n}}\n"
    );
    let made = imported(&text).unwrap();
    assert_eq!(model(&made).vrrp[0].track.len(), 3, "{}", made.text);
    for line in [
        "script = [\"/bin/check\", \"x\"]",
        "interval = 5.0",
        "timeout = 3.0",
        "rise = 4",
        "fall = 2",
        "weight = -20",
        "user = \"web\"",
        "group = \"www\"",
        "init_fail = true",
        "name = \"a\"",
        "process = \"bird\"",
        "weight = 3",
        "process = \"named\"",
        "quorum = 2",
        "weight = 9",
    ] {
        contains(&made.text, line);
    }
    contains(&made.report, "`script`: weir looks for the process itself");
    contains(&made.report, "`vrrp_script`: no instance tracks it");
    contains(&made.report, "`d`: no vrrp_track_process of this name is there");
    contains(&made.report, "`delay`: weir looks twice a second");
    // A group's are its members'.
    let made = imported(&format!(
        "vrrp_sync_group G {{\n group {{\n VI_1\n }}\n track_script {{\n a\n }}\n}}\n{blocks}{INSTANCE}}}\n"
    ))
    .unwrap();
    assert_eq!(model(&made).vrrp[0].track.len(), 1, "{}", made.text);
}

#[test]
fn programs_are_told_of_states() {
    let (made, _) = instance(
        "notify_master /bin/m\nnotify \"/bin/n x\"\nvirtual_ipaddress_excluded {\n 192.0.2.7/24\n 2001:db8::1\n}",
    );
    contains(&made.text, "notify_master = [\"/bin/m\"]");
    contains(&made.text, "notify = [\"/bin/n\", \"x\"]");
    contains(&made.text, "excluded_addresses = [\"192.0.2.7\"]");
    contains(&made.report, "`2001:db8::1`: write an instance of its own");
    let text = format!(
        "global_defs {{\n vrrp_notify_fifo /run/f\n notify_fifo /run/g\n notify_fifo_script /bin/r\n vrrp_garp_interval 0.01\n vrrp_gna_interval 0\n}}\n{INSTANCE} unicast_src_ip 198.51.100.9\n}}\n"
    );
    let made = imported_for(&text, &["eth0=0000:03:00.0,198.51.100.2/24,192.0.2.2/24"], None).unwrap();
    model(&made);
    contains(&made.text, "[control]\nvrrp_notify_fifo = \"/run/f\"");
    contains(&made.text, "garp_interval = 0.01");
    lacks(&made.text, "gna_interval");
    lacks(&made.text, "source_address");
    contains(&made.report, "`notify_fifo`: weir writes one FIFO");
    contains(&made.report, "`unicast_src_ip`: it is no address of the port");
}

#[test]
fn blocks_of_peers_add_up() {
    let (made, model) = instance("unicast_peer {\n 192.0.2.6\n}\nunicast_peer {\n 192.0.2.7\n}");
    assert_eq!(model.vrrp[0].unicast_peers.len(), 2, "{}", made.text);
}

#[test]
fn interfaces_are_those_of_the_command_line() {
    let text = format!("{INSTANCE}}}\n{}", with("", ""));
    let made =
        imported_for(&text, &["eth0=0000:03:00.0,192.0.2.2/24", "eth1=0000:03:00.1,10.0.0.1/24"], None)
            .unwrap();
    model(&made);
    lacks(&made.text, "FILL IN:");
    contains(&made.text, "device = \"0000:03:00.0\"");
    // Who comes by ssh comes by these.
    contains(&made.text, "host_interface = \"weir0\"");
    contains(&made.text, "host_interface = \"weir1\"");
    for bad in ["eth0", "eth0=", "=x", "eth0=x,1.2.3.4", "eth0=x,1.2.3.4/33"] {
        assert!(device(bad).is_err(), "{bad}");
    }
}

/// Knows one service.
struct Book;

impl crate::ipvsadm::names::Names for Book {
    fn host(&self, _: std::net::IpAddr) -> Option<String> {
        None
    }
    fn address(&self, _: &str) -> Option<std::net::Ipv4Addr> {
        None
    }
    fn service(&self, _: u16, _: crate::ipvsadm::command::Protocol) -> Option<String> {
        None
    }
    fn port(&self, name: &str, _: crate::ipvsadm::command::Protocol) -> Option<u16> {
        (name == "http").then_some(80)
    }
}

#[test]
fn a_length_that_is_no_prefix_leaves_the_address() {
    let text = "vrrp_instance a {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n  192.0.2.1/33\n  192.0.2.2/-1\n  192.0.2.3/\n  192.0.2.4/24/24\n \
        x/33\n }\n virtual_ipaddress_excluded {\n  192.0.2.5/x\n }\n}\nstatic_ipaddress {\n 192.0.2.9/240 dev eth0\n}\n";
    let made = imported(text).unwrap();
    contains(&made.text, "addresses = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"192.0.2.4\"]");
    contains(&made.text, "excluded_addresses = [\"192.0.2.5\"]");
    contains(&made.text, "192.0.2.9/32");
    for odd in ["33", "-1", "24/24", "x", "240"] {
        contains(
            &made.report,
            &format!("{odd} is no prefix length of such an address: keepalived goes on with 32"),
        );
    }
    contains(&made.report, "`x/33`: this is no address");
}

#[test]
fn a_mask_that_is_no_prefix_is_left_out() {
    let text = "-A -t 192.0.2.1:80 -s rr -p 300 -M 255.0.255.0\n";
    let made = ipvsadm::import(Path::new("rules"), text.as_bytes(), &[], &Book).unwrap();
    model(&made);
    lacks(&made.text, "persistence_netmask");
    contains(&made.report, "line 1: `-M`: the mask 255.0.255.0 is no prefix of a network");
}

#[test]
fn rules_of_ipvsadm_are_carried() {
    let text = "-A -t 192.0.2.1:http -s wrr -p 300 -M 255.255.255.0\n-a -t 192.0.2.1:80 -r 10.0.0.11:8080 -m -w 3 -x 10 -y 5\n\
        -A -t [2001:db8::1]:443 -s sh -b sh-fallback,sh-port\n-a -t [2001:db8::1]:443 -r [2001:db8:1::1]:443 -i -w 1 --tun-type gue --tun-port 6080\n\
        -A -f 5 -s rr\n-a -f 5 -r 10.0.0.12:0 -g -w 1\n-A -t 192.0.2.3:80 rr\n-a -t 192.0.2.9:80 -r 10.0.0.1:80\n# comment\n";
    let made = ipvsadm::import(Path::new("rules"), text.as_bytes(), &[], &Book).unwrap();
    let model = model(&made);
    assert_eq!(model.virtual_servers.len(), 3, "{}", made.text);
    contains(&made.text, "upper_threshold = 10");
    contains(&made.text, "tunnel = \"gue\"");
    contains(&made.text, "scheduler_flags = [\"sh-fallback\", \"sh-port\"]");
    contains(&made.report, "line 7: `-A -t 192.0.2.3:80 rr`: ipvsadm says: unexpected argument rr");
    contains(&made.report, "no rule before it adds this service");
    assert!(ipvsadm::import(Path::new("rules"), b"a\0", &[], &Book).is_err());
    assert!(!ipvsadm::import(Path::new("rules"), b"", &[], &Book).unwrap().is_something);
}

#[test]
fn rules_below_a_service_that_weir_refuses_are_left_out_with_it() {
    let text = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.11:80 -m\n\
        -A -t 192.0.2.2:80 -s nosuch\n-a -t 192.0.2.2:80 -r 10.0.0.12:80 -m\n-a -t 192.0.2.2:80 -r 10.0.0.13:80 -m\n\
        --set 1 2 3\n--set 4 5 6\n";
    let made = ipvsadm::import(Path::new("rules"), text.as_bytes(), &[], &Book).unwrap();
    lacks(&made.text, "\n  address = \"10.0.0.12\"");
    contains(&made.report, "lines carried: 3");
    contains(&made.report, "left out: 4");
    contains(&made.report, "line 7 sets the timeouts again");
}

#[test]
fn an_interface_of_a_vlan_is_a_vlan_of_its_device() {
    let text = "vrrp_instance a {\n interface eth0.100\n virtual_router_id 1\n priority 100\n virtual_ipaddress {\n 192.0.2.1/24\n }\n}\n\
                vrrp_instance b {\n interface eth1.7\n virtual_router_id 2\n priority 100\n virtual_ipaddress {\n 198.51.100.1/24\n }\n}\n\
                vrrp_instance c {\n interface x.5000\n virtual_router_id 3\n priority 100\n virtual_ipaddress {\n 203.0.113.1/24\n }\n}\n";
    let model = model(&imported(text).unwrap());
    let ports: Vec<_> = model
        .ports
        .iter()
        .map(|it| (it.name.as_str(), it.device.as_str(), it.vlan.map(|it| it.id)))
        .collect();
    assert_eq!(
        ports,
        [
            ("x.5000", "FILL-IN-x.5000", None),
            ("eth0", "FILL-IN-eth0", None),
            ("eth1", "FILL-IN-eth1", None),
            ("eth0.100", "FILL-IN-eth0", Some(100)),
            ("eth1.7", "FILL-IN-eth1", Some(7)),
        ]
    );
    assert_eq!(model.ports[model.vrrp[1].port].name, "eth1.7");
}
