//! keepalived's language, line by line.

use super::*;

const ONE: &str = "virtual_server 192.0.2.1 80 {\n lb_algo rr\n real_server 10.0.0.11 80 {\n }\n}\n";

#[test]
fn comments_end_lines_but_not_within_quotes() {
    let text = with(
        "lb_algo rr ! round\nquorum_up \"/bin/up a!b#c\" # up",
        "weight 3# three\nHTTP_GET { url { path /!x\n status_code 200 } }",
    );
    let made = imported(&text).unwrap();
    contains(&made.text, "scheduler = \"rr\"");
    contains(&made.text, "weight = 3");
    contains(&made.text, "path = \"/\"");
    contains(&made.text, "quorum_up = [\"/bin/up\", \"a!b#c\"]");
}

#[test]
fn definitions_conditions_sequences_and_continued_lines() {
    let text = "$VIP=192.0.2.1\n$BOTH=$VIP 80\nvirtual_server ${BOTH} {\n lb_kind \\\n  NAT\n @a lb_algo rr\n @^a lb_algo sh\n \
        ~SEQ(n, 11, 12) real_server 10.0.0.$n 80 { weight $n }\n ~LST(w, 21, 22) real_server 10.0.0.${w} 80 {}\n}\n";
    let made = imported_for(text, &[], Some("a")).unwrap();
    contains(&made.text, "scheduler = \"rr\"");
    contains(&made.report, "1 virtual servers, 4 real servers");
    model(&made);
    let other = imported_for(text, &[], Some("b")).unwrap();
    contains(&other.text, "scheduler = \"sh\"");
    let unknown = imported(text).unwrap();
    contains(&unknown.text, "scheduler = \"sh\"");
    contains(&unknown.report, "--config-id");
}

#[test]
fn a_backslash_before_the_line_end_of_windows_joins_nothing_as_in_keepalived() {
    let text = "virtual_server 192.0.2.1 80 {\r\n lb_algo \\\r\n sh\r\n # a remark \\\r\n protocol UDP\r\n real_server 10.0.0.11 80 {\r\n }\r\n}\r\n";
    let made = imported(text).unwrap();
    lacks(&made.text, "\"sh\"");
    contains(&made.text, "protocol = \"udp\"");
    contains(&made.report, "lb_algo\\");
    let joined = imported(&text.replace('\r', "")).unwrap();
    contains(&joined.text, "scheduler = \"sh\"");
}

#[test]
fn a_definition_of_several_lines_is_several_lines() {
    let text =
        "$RS=real_server 10.0.0.11 80 { \\\n weight 7 \\\n }\nvirtual_server 192.0.2.1 80 {\n $RS\n}\n";
    let made = imported(text).unwrap();
    contains(&made.text, "weight = 7");
}

#[test]
fn a_block_of_another_node_is_left_out_whole() {
    let text = format!("@other virtual_server 192.0.2.9 80 {{\n real_server 10.0.0.9 80 {{\n }}\n}}\n{ONE}");
    let made = imported_for(&text, &[], Some("this")).unwrap();
    lacks(&made.text, "192.0.2.9");
    contains(&made.report, "1 virtual servers, 1 real servers");
}

#[test]
fn a_head_for_each_node_has_one_body() {
    let text = "virtual_server 192.0.2.1 80 {\n@a real_server 10.0.0.11 80 {\n@b real_server 10.0.0.12 80 {\n weight 7\n }\n real_server 10.0.0.13 80 {\n }\n}\n";
    for (node, address) in [("a", "10.0.0.11"), ("b", "10.0.0.12")] {
        let made = imported_for(text, &[], Some(node)).unwrap();
        contains(&made.text, &format!("address = \"{address}\""));
        contains(&made.report, "1 virtual servers, 2 real servers");
        contains(&made.text, "weight = 7");
        contains(&made.report, &format!("lines of other nodes than `{node}`"));
    }
    for node in [Some("c"), None] {
        let made = imported_for(text, &[], node).unwrap();
        contains(&made.report, "1 virtual servers, 1 real servers");
        lacks(&made.text, "weight = 7");
        lacks(&made.report, "closes nothing");
    }
}

#[test]
fn comments_and_escapes_within_continued_lines() {
    let text = "$VS= \\\nvirtual_server 192.0.2.1 80 { \\\n# lb_algo sh \\\n lb_algo rr \\\n ~SEQ(n, 1, 3) $RS \\\n}\n$RS=real_server 10.0.0.$n 80 { \\\n weight 2 # two \\\n }\n$VS\n";
    let made = imported(text).unwrap();
    contains(&made.report, "1 virtual servers, 3 real servers");
    contains(&made.text, "scheduler = \"rr\"");
    contains(&made.text, "weight = 2");
    // A comment alone does not go on.
    contains(&imported(&format!("# x \\\n{ONE}")).unwrap().report, "1 virtual servers, 1 real servers");
    contains(
        &imported(&with("", "HTTP_GET { url {\n path /\n regex a\\#b\\!c } }")).unwrap().text,
        "= \"a#b!c\"",
    );
}

#[test]
fn braces_missing_or_too_many_are_told_with_their_line() {
    let made =
        imported("virtual_server 192.0.2.1 80\n lb_algo rr\n real_server 10.0.0.11 80 {\n }\n}\n").unwrap();
    contains(&made.report, "line 1: no `{` behind `virtual_server 192.0.2.1 80`");
    contains(&made.report, "1 virtual servers, 1 real servers");
    let made = imported(&format!("{ONE}}}\n")).unwrap();
    contains(&made.report, "line 6: a `}` that closes nothing");
    let made = imported(ONE.trim_end().trim_end_matches('}')).unwrap();
    contains(&made.report, "line 1: no `}` for `virtual_server 192.0.2.1 80` up to the end of the file");
    // One that closes too much.
    let text = "virtual_server 192.0.2.1 80 {\n real_server 10.0.0.11 80 {\n }  }\n real_server 10.0.0.12 80 {\n }\n}\n";
    let made = imported(text).unwrap();
    contains(
        &made.report,
        "broken:\n  line 3: this `}` closes `virtual_server 192.0.2.1 80`; `real_server 10.0.0.12 80` and what else follows",
    );
    contains(&made.report, "line 6: a `}` that closes nothing");
    contains(&made.report, "line 4: `real_server`: this word means nothing in this place, with its block");
    lacks(&imported(&format!("{ONE}{ONE}")).unwrap().report, "broken");
    // Of a real server, and of a virtual server.
    let text = "virtual_server 192.0.2.1 80 {\n real_server 10.0.0.11 80 {\n weight 1\n real_server 10.0.0.12 80 {\n }\n}\n\
        virtual_server 192.0.2.2 80 {\n real_server 10.0.0.11 80 {\n }\n}\n";
    let made = imported(text).unwrap();
    contains(&made.report, "2 virtual servers, 3 real servers");
    contains(&made.report, "line 2: no `}` for this block before `real_server 10.0.0.12 80` begins");
}

#[test]
fn an_unknown_word_is_said_with_the_one_that_was_meant() {
    let made = imported(&with("nonsense { a { b } }", "weigth 5\nTCP_CHECK { connetc_port 80 }")).unwrap();
    contains(
        &made.report,
        "`weigth`: keepalived does not know this word and ignores it; was `weight` meant?",
    );
    contains(&made.report, "was `connect_port` meant?");
    contains(&made.report, "`nonsense`: keepalived does not know this word and ignores it, with its block");
    model(&made);
}

#[test]
fn a_template_is_seen_at_once() {
    for (line, mark) in
        [("{% for x in y %}", "{%"), ("state {{ role }}", "{{"), ("state ${STATE:-MASTER}", "${...:-...}")]
    {
        let problem = imported(&format!("{ONE}{line}\n")).err().unwrap();
        assert!(problem.starts_with(&format!("line 6 holds `{mark}`: this is a template")), "{problem}");
    }
    // In a comment it is none.
    assert!(imported(&format!("# {{{{ x }}}}\n{ONE}")).is_ok());
}

#[test]
fn line_ends_of_windows_latin_1_and_open_quotes_are_read() {
    let made = imported(&ONE.replace('\n', "\r\n")).unwrap();
    contains(&made.report, "remarks: 1, left out: 0");
    let mut bytes = b"# caf\xe9\n".to_vec();
    bytes.extend(ONE.bytes());
    let source = lexer::read_text(Path::new("k"), &bytes, None).unwrap();
    contains(&source.notes[0].text, "Latin-1");
    let made = imported(&format!("{ONE}global_defs {{\n router_id \"LVS\n}}\n")).unwrap();
    contains(&made.report, "line 7: a quotation mark is not closed");
}

#[test]
fn hostile_files_get_a_sentence() {
    let deep = "a {\n".repeat(100_000);
    contains(&imported(&deep).err().unwrap(), "line 65: braces within braces, more than 64");
    contains(&imported(&"{ ".repeat(100_000)).err().unwrap(), "braces within braces");
    contains(&imported("a\0b\n").err().unwrap(), "line 1 holds a byte of 0");
    // Each definition is the one before it twice.
    let mut text = String::from("$A0=xxxxxxxxxx\n");
    for number in 1..64 {
        text += &format!("$A{number}=$A{}$A{}\n", number - 1, number - 1);
    }
    text += "$A63\n";
    assert!(imported(&text).err().unwrap().contains("MiB"), "bounded");
    let made = imported("$A=$A x\n$A\n").unwrap();
    contains(&made.report, "definitions refer to each other without end");
    let made = imported("~SEQ(x, 1, 999999999) y $x\n").unwrap();
    contains(&made.report, "no sequence that can be counted");
    let quote = format!("notify \"{}\n", "x".repeat(5_000_000));
    assert!(!imported(&quote).unwrap().is_something);
    for text in [
        "",
        "}",
        "{",
        "\"",
        "@",
        "@x",
        "$",
        "${",
        "$=",
        "~SEQ",
        "~SEQ(",
        "~LST()",
        "include",
        "\\",
        "virtual_server",
        "virtual_server {",
        "vrrp_instance",
        "real_server {",
    ] {
        let _ = imported(text);
    }
}

#[test]
fn files_are_included_with_globs_and_no_loop() {
    let directory = std::env::temp_dir().join(format!("weirctl-import-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("conf.d")).unwrap();
    let main = directory.join("keepalived.conf");
    std::fs::write(&main, "include conf.d/*.conf\ninclude keepalived.conf\ninclude none.conf\n").unwrap();
    std::fs::write(directory.join("conf.d/b.conf"), "virtual_server 192.0.2.2 80 {\n include ../rs\n}\n")
        .unwrap();
    std::fs::write(directory.join("conf.d/a.conf"), format!("include ${{_PWD}}/../none\n{ONE}")).unwrap();
    std::fs::write(directory.join("conf.d/a.conf~"), "nonsense\n").unwrap();
    std::fs::write(directory.join("rs"), "real_server 10.0.0.12 80 {\n}\n").unwrap();
    let made = keepalived(&main, &[], None).unwrap();
    contains(&made.report, "2 virtual servers, 2 real servers");
    contains(&made.report, "includes itself");
    contains(&made.report, "no file `none.conf` is there");
    contains(&made.report, "keepalived.conf:2");
    contains(&made.report, &format!("no file `{}/conf.d/../none`", directory.display()));
    std::fs::remove_dir_all(&directory).unwrap();
    contains(&keepalived(&main, &[], None).err().unwrap(), "can't be read");
}

#[test]
fn the_working_directory_is_absolute() {
    let source = lexer::read_text(Path::new("keepalived.conf"), b"a ${_PWD}\n", None).unwrap();
    let directory = std::env::current_dir().unwrap();
    assert_eq!(source.lines[0].words[1].text, directory.display().to_string());
}

#[test]
fn what_includes_read_has_a_limit_also_of_comments() {
    let directory = std::env::temp_dir().join(format!("weirctl-import-much-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let main = directory.join("keepalived.conf");
    std::fs::write(directory.join("comments"), format!("#{}\n", "x".repeat(8 << 20))).unwrap();
    std::fs::write(&main, "include comments\n".repeat(5)).unwrap();
    assert!(keepalived(&main, &[], None).is_ok());
    std::fs::write(&main, "include comments\n".repeat(9)).unwrap();
    let problem = keepalived(&main, &[], None).err().unwrap();
    // Notes of files that are not there count as well.
    std::fs::write(&main, "include x\n".repeat(1_000_000)).unwrap();
    let other = keepalived(&main, &[], None).err().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    for problem in [problem, other] {
        contains(&problem, "definitions, sequences and included files make more than 64 MiB of it");
    }
}

/// Seconds of a processor that this thread has had: what others take counts for nothing.
fn processor_time() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec
}

#[test]
fn megabytes_of_unknown_words_take_no_longer_for_each_than_a_few() {
    let mut text = String::new();
    for number in 0.. {
        if text.len() > 4_000_000 {
            break;
        }
        text += &format!("w{number} x\n");
    }
    let begun = processor_time();
    let made = imported(&text).unwrap();
    assert!(processor_time() - begun < 60);
    assert!(made.report.lines().count() > 400_000);
    // One remark for each does not fit.
    assert!(made.report.contains(" MiB, and weir loads none of more than 16 MiB"));
    assert!(made.text.starts_with("# FILL IN: weir refuses 1 things of this file"));
}

#[test]
fn long_lines_are_read_in_one_pass() {
    let begun = processor_time();
    for line in ["${".repeat(1_000_000), format!("aaa${{{}", "}".repeat(2_000_000))] {
        let _ = imported(&line);
    }
    // The same names, addresses and interfaces many times, and different ones.
    let same: String = (0..20_000_u32)
        .map(|it| {
            format!(
                "vrrp_instance A{it} {{\n interface eth0\n virtual_ipaddress {{\n 11.{}.{}.1\n}}\n}}\n",
                it / 200,
                it % 200
            )
        })
        .chain((0..20_000).map(|_| "vrrp_instance A0 {\n interface eth0\n}\n".to_owned()))
        .collect();
    let many: String =
        (0..20_000_u32).map(|it| format!("10.{}.{}.1 dev eth{it}\n", it / 200, it % 200)).collect();
    let mut map = Map::default();
    let mut head = Item::new("", String::new(), None);
    for text in [
        same,
        format!("static_ipaddress {{\n{many}}}\nvrrp_instance B {{\n virtual_ipaddress {{\n{many}}}\n}}\n"),
    ] {
        let mut source = lexer::read_text(Path::new("k"), text.as_bytes(), None).unwrap();
        let tree = blocks::tree(&mut source).unwrap();
        map.whole(&tree, &mut head);
    }
    assert_eq!(map.tables.vrrp.len(), 20_001);
    assert!(processor_time() - begun < 60);
}
