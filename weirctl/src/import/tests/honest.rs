//! A line is said to be carried only if it is: whatever is changed in it changes weir's file, or what is said of the line.

use std::collections::HashMap;

use super::super::ends::End;
use super::*;

/// Looks at lines, each with its block around once.
#[derive(Default)]
pub(super) struct Honest {
    seen: HashMap<String, usize>,
    /// Lines that are carried and that nothing hears.
    unheard: Vec<String>,
}

/// Words that mean something for checks alone, and for those that do not say otherwise.
pub(super) const TIMES_OF_CHECKS: &[&str] =
    &["delay_loop", "connect_timeout", "retry", "delay_before_retry", "warmup", "virtualhost"];
/// Times that lines of one word and one form are looked at.
const TIMES: usize = 1;

/// Words of which nothing has to be carried.
fn means_nothing(word: &str) -> bool {
    matches!(word, "state" | "accept" | "preempt" | "include")
        || word.starts_with(['$', '~', '@'])
        || words::absent(word) == Some(words::Absent::Nothing)
}

/// weir's tables without comments.
fn tables(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Other values in place of one.
fn others(value: &str) -> Vec<String> {
    let mut others = vec![format!("{value}x")];
    if let Ok(number) = value.parse::<i64>() {
        others.push((number + 1).to_string());
        others.push(format!("{number}.001"));
    }
    if matches!(value, "on" | "off" | "true" | "false" | "yes" | "no") {
        let is_on = matches!(value, "on" | "true" | "yes");
        others = vec![if is_on { "off" } else { "on" }.to_owned()];
    }
    others
}

impl Honest {
    /// What a file's carried lines are good for. `node` as in `--config-id`.
    pub(super) fn look(&mut self, text: &str, interfaces: &[&str], node: Option<&str>) {
        let made = imported_for(text, interfaces, node).unwrap();
        let wanted = tables(&made.text);
        let lines: Vec<&str> = text.lines().collect();
        let with = |at: usize, line: &str| {
            let mut lines = lines.clone();
            lines[at] = line;
            let made = imported_for(&lines.join("\n"), interfaces, node).unwrap();
            (tables(&made.text), made.ends.of(at + 1))
        };
        for (at, line) in lines.iter().enumerate() {
            let words: Vec<&str> =
                line.split(['#', '!']).next().unwrap_or_default().split_ascii_whitespace().collect();
            let Some(word) = words.first().copied().filter(|_| made.ends.of(at + 1) == End::Carried) else {
                continue;
            };
            if means_nothing(word) || self.is_seen(word, &words) {
                continue;
            }
            let values: Vec<usize> =
                (1..words.len()).filter(|place| !words[*place].contains(['{', '}', '"'])).collect();
            if values.is_empty() && !line.contains(['{', '}']) && with(at, "").0 == wanted {
                self.unheard.push(format!("{}: `{}` changes nothing", at + 1, line.trim()));
            }
            for place in values {
                for other in others(words[place]) {
                    let mut words = words.clone();
                    words[place] = &other;
                    let other = words.join(" ");
                    let (tables, end) = with(at, &other);
                    if tables == wanted && end == End::Carried {
                        self.unheard.push(format!(
                            "{}: `{} ` is carried as `{other}` is",
                            at + 1,
                            line.trim()
                        ));
                    }
                }
            }
        }
    }

    /// Says what was found. Words that this file does not use, such as times without a check, may be told.
    #[track_caller]
    pub(super) fn end(self, unused: &[&str]) {
        let is_unused = |line: &&String| !unused.iter().any(|word| line.contains(&format!("`{word} ")));
        let unheard: Vec<String> = self.unheard.iter().filter(is_unused).cloned().collect();
        assert!(unheard.is_empty(), "said to be carried:\n{}", unheard.join("\n"));
    }

    /// Whether lines of this form were looked at often enough.
    fn is_seen(&mut self, word: &str, words: &[&str]) -> bool {
        let form = words[1..].iter().map(|word| if word.parse::<f64>().is_ok() { "0" } else { word });
        let form = form.fold(word.to_owned(), |form, word| form + " " + word);
        let times = self.seen.entry(form).or_default();
        *times += 1;
        *times > TIMES
    }
}

#[test]
fn odd_lines_are_carried_only_if_they_are() {
    let text = include_str!("odd.conf");
    Honest::default().look(
        text,
        &["eth0=0000:03:00.0,198.51.100.200/24", "eth1=0000:03:00.1,10.0.0.254/24"],
        None,
    );
}

#[test]
fn what_is_left_out_is_said_of_its_own_lines() {
    for (text, lines) in [
        // A check that all real servers share, and that weir refuses.
        (
            "virtual_server 192.0.2.1 53 {\n protocol UDP\n real_server 10.0.0.1 53 {\n UDP_CHECK {\n payload zz\n }\n }\n \
             real_server 10.0.0.2 53 {\n UDP_CHECK {\n payload zz\n }\n }\n}\n",
            &[4, 5, 9, 10][..],
        ),
        // What stands in a block that is left out.
        ("vrrp_script a {\n interval 5\n weight 3\n}\nvirtual_server 192.0.2.1 80 {\n}\n", &[1, 2, 3]),
        (
            "virtual_server 192.0.2.1 80 {\n real_server 10.0.0.1 80 {\n MISC_CHECK {\n retry 3\n misc_timeout 4\n }\n }\n}\n",
            &[3, 4, 5],
        ),
        ("virtual_server_group G {\n 192.0.2.1 80\n}\nvirtual_server 192.0.2.1 80 {\n}\n", &[1, 2]),
        // A key that weir refuses alone.
        ("virtual_server 192.0.2.1 80 {\n ops\n protocol TCP\n}\n", &[2]),
        ("virtual_server 192.0.2.1 80 {\n lb_algo rr\n sh-port\n}\n", &[3]),
        (
            "virtual_server 192.0.2.1 80 {\n real_server 10.0.0.1 80 {\n weight 1\n uthreshold 3\n lthreshold 5\n }\n}\n",
            &[5],
        ),
        // A group's address that stands there already.
        (
            "virtual_server 192.0.2.1 80 {\n}\nvirtual_server_group G {\n 192.0.2.1 80\n 192.0.2.2 80\n}\nvirtual_server group G {\n}\n",
            &[4, 7],
        ),
        // Whom a sync group has not.
        (
            "vrrp_sync_group G {\n group {\n A\n B\n }\n}\nvrrp_instance A {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n",
            &[4],
        ),
        // A file that weir does not take.
        (
            "vrrp_track_file f {\n file relative\n}\nvrrp_instance A {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.1\n }\n track_file {\n f\n }\n}\n",
            &[1, 2, 11],
        ),
        ("vrrp_track_file f {\n file /f\n}\nvirtual_server 192.0.2.1 80 {\n}\n", &[1, 2]),
        // Sequences of nothing, and lines of a block that is another node's.
        ("~SEQ(x, 5, 1, 2) router_id $x\nvirtual_server 192.0.2.1 80 {\n}\n", &[1]),
        (
            "@a vrrp_instance A {\n@^b priority 5\n@^c priority 6\n}\nvirtual_server 192.0.2.1 80 {\n}\n",
            &[1, 2, 3],
        ),
        (
            "virtual_server 192.0.2.1 80 {\n lvs_sched rr\n}\nglobal_defs {\n lvs_timeouts 0 999999999 x\n}\n",
            &[],
        ),
        ("virtual_server 192.0.2.1 80 {\n}\nglobal_defs {\n lvs_timeouts tcp 999999999\n}\n", &[4]),
        // The last line that says a number.
        (
            "vrrp_instance A {\n interface eth0\n virtual_router_id 7\n advert_int 3\n advert_int x\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n",
            &[5],
        ),
    ] {
        let made = imported(text).unwrap();
        let left: Vec<usize> =
            (1..=text.lines().count()).filter(|line| made.ends.of(*line) == End::LeftOut).collect();
        assert_eq!(left, lines, "{text}\n{}", made.report);
    }
}

#[test]
fn numbers_that_weir_has_not_are_told() {
    for (word, told) in [
        ("delay_loop 0.01", "weir has 0.1 to 86400, and 0.1 was written for 0.01"),
        ("retry 300", "weir has 0 to 254, and 254 was written for 300"),
        ("connect_timeout 4000", "weir has 0.01 to 3600, and 3600 was written for 4000"),
        ("hysteresis 7", "keepalived has it below the quorum: 0 was written"),
        ("lb_algo rr sh-prot", "there is no flag `sh-prot`, in keepalived either"),
        ("sorry_server 10.0.0.9 http", "its port is no number; the virtual server's was taken"),
        ("alpha maybe", "`maybe` and what stands behind it mean nothing"),
        ("quorum 3 4", "`4` and what stands behind it mean nothing"),
        ("lb_kind TUN port 6080", "a tunnel without `type` is IPIP"),
    ] {
        let made = imported(&with(word, "TCP_CHECK {\n}")).unwrap();
        contains(&made.report, &format!("line 3: `{}`: {told}", word.split(' ').next().unwrap()));
        assert_eq!(made.ends.of(3), End::Remark, "{word}");
    }
}
