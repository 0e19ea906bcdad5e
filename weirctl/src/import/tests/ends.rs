//! Each line of a source is carried, carried with a remark, or left out with its reason.

use super::*;

/// What the report says of lines: carried, with remarks, left out.
fn sums(made: &Made) -> [usize; 3] {
    let of = |name: &str| {
        let rest = made.report.split_once(name).unwrap().1;
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().unwrap()
    };
    [of("lines carried: "), of("with remarks: "), of("left out: ")]
}

/// Lines that hold more than braces and comments, counted in another way.
fn lines(text: &str) -> usize {
    let words = |line: &&str| {
        line.split(['#', '!']).next().unwrap_or_default().contains(|it: char| it.is_ascii_alphanumeric())
    };
    text.lines().filter(words).count()
}

#[test]
fn the_sums_are_all_lines() {
    let text = "# a comment\n\nglobal_defs {\n router_id x\n smtp_server 1.2.3.4\n notification_email {\n  a@b.example\n }\n}\n\
        vrrp_instance V {\n interface eth0\n virtual_router_id 7\n priority 5 ! low\n virtual_ipaddress\n {\n  192.0.2.1 label eth0:1\n }\n priority 6\n}\n\
        virtual_server 192.0.2.1 80 {\n weigth 1\n delay_loop 5 {\n  strange 1\n }\n real_server 192.0.2.1 80 {\n  weight 4\n }\n real_server 10.0.0.11 80 {\n }\n}\n";
    let made = imported(text).unwrap();
    let [carried, remarks, left] = sums(&made);
    assert_eq!(carried + remarks + left, lines(text), "{}", made.report);
    // The real server that weir refuses is left out with all that it says, mail with its addresses.
    assert_eq!((remarks, left), (3, 7), "{}", made.report);
    contains(&made.report, "line 13: `priority`: line 18 says it again, and the last one counts");
    contains(&made.report, "line 23: `strange`: it means nothing in this place");
    contains(&made.text, "priority = 6");
}

#[test]
fn what_is_said_twice_is_told() {
    for (text, told) in [
        (
            "vrrp_track_file f {\n file /a\n}\nvrrp_track_file f {\n file /b\n}\nvirtual_server 192.0.2.1 80 {\n}\n",
            "line 4: `vrrp_track_file`: a file of this name stands before it",
        ),
        (
            "vrrp_instance V {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n authentication {\n auth_type PASS\n auth_pass a\n }\n authentication {\n auth_type PASS\n auth_pass b\n }\n}\n",
            "line 7: `authentication`: the instance has another one behind it",
        ),
        (
            "vrrp_instance V {\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n interface eth0\n interface eth1\n}\n",
            "line 6: `interface`: line 7 says it again",
        ),
        (
            "virtual_server 192.0.2.1 80 {\n lb_algo rr\n lvs_sched wrr\n}\n",
            "line 2: `lb_algo`: line 3 says it again",
        ),
        (
            "virtual_server 192.0.2.1 80 {\n alpha\n real_server 10.0.0.11 80 {\n alpha off\n }\n}\n",
            "line 4: `alpha`: the virtual server has it on",
        ),
        (
            "virtual_server 192.0.2.1 80 80 {\n}\n",
            "line 1: `virtual_server`: words behind the port mean nothing",
        ),
    ] {
        let made = imported(text).unwrap();
        contains(&made.report, told);
        let [carried, remarks, left] = sums(&made);
        assert_eq!(carried + remarks + left, lines(text), "{}", made.report);
    }
    let made = imported("vrrp_instance V {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n authentication {\n auth_type PASS\n auth_pass a\n }\n authentication {\n auth_pass b\n }\n}\n").unwrap();
    contains(&made.text, "password = \"b\"");
    let made =
        imported("virtual_server 192.0.2.1 80 {\n protocol TCP\n lb_algo rr\n lvs_sched rr\n}\n").unwrap();
    contains(&made.report, "with remarks: 0, left out: 0");
}

#[test]
fn files_of_any_words_have_an_end_for_each_line() {
    let words = [
        "virtual_server 192.0.2.1 80",
        "virtual_server fwmark 3",
        "virtual_server_group G",
        "virtual_server group G",
        "vrrp_instance V",
        "vrrp_sync_group S",
        "global_defs",
        "static_routes",
        "vrrp_track_file f",
        "real_server 10.0.0.11 80",
        "TCP_CHECK",
        "HTTP_GET",
        "url",
        "virtual_ipaddress",
        "unicast_peer",
        "track_interface",
        "track_file",
        "authentication",
        "group",
        "host",
    ];
    let lines_of = [
        "weight 5",
        "192.0.2.9 80",
        "10.0.0.0/8 via 10.0.0.1",
        "f weight 2",
        "eth0",
        "V",
        "fwmark 5",
        "priority 7",
        "path /",
        "status_code 200",
        "auth_type PASS",
        "auth_pass x",
        "delay_loop 3",
        "retry x",
        "nonsense",
        "state MASTER",
        "alpha",
        "quorum 0",
        "interface eth0",
        "file /f",
        "lvs_timeouts 1 2 3",
        "script_user root",
        "notify /bin/x",
        "@a weight 3",
        "$A=x",
        "sorry_server 10.0.0.20 80",
        "misc_path x",
        "preempt_delay 4",
    ];
    let mut state = 7_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let mut honest = honest::Honest::default();
    for number in 0..400 {
        let (mut text, mut open) = (String::new(), 0);
        for _ in 0..below(40) {
            match below(6) {
                0 | 1 => {
                    text += &format!("{} {{\n", words[below(words.len())]);
                    open += 1;
                }
                2 if open > 0 => {
                    text += "}\n";
                    open -= 1;
                }
                _ => text += &format!("{}\n", lines_of[below(lines_of.len())]),
            }
        }
        text += &"}\n".repeat(open);
        let made = imported(&text).unwrap();
        let [carried, remarks, left] = sums(&made);
        assert_eq!(carried + remarks + left, lines(&text), "{text}\n{}", made.report);
        if number % 20 == 0 {
            honest.look(&text, &[], None);
        }
        assert!(
            made.text.is_empty()
                || weir_config::parse("weir.toml", &made.text).is_ok()
                || made.text.contains("FILL IN: weir refuses"),
            "{}",
            made.text
        );
    }
    honest.end(honest::TIMES_OF_CHECKS);
}
