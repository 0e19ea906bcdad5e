//! Mistakes that people make, and what the help of each says: done to the letter, the file is good.

#![allow(clippy::unwrap_used)] // helpers of tests, as in tests themselves

use weir_config::report::Report;

/// A file without a fault.
const GOOD: &str = r#"
[http]
listen = "127.0.0.1:9292"

[[port]]
name = "lan"
device = "0000:03:00.0"
addresses = ["10.0.0.2/24"]

[[route]]
destination = "0.0.0.0/0"
gateway = "10.0.0.1"

[[mark]]
mark = 7
addresses = ["192.0.2.0/24"]

[[virtual_server]]
name = "marked"
mark = 7

[[virtual_server.real_server]]
address = "10.0.0.12"

[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
persistence_timeout = 300
sorry_server = { address = "10.0.0.9", port = 80 }

[virtual_server.health_check]
type = "http"
status = [200]
timeout = 1

[[virtual_server.real_server]]
address = "10.0.0.11"

[[vrrp]]
name = "vi"
port = "lan"
virtual_router_id = 51
addresses = ["10.0.0.100"]
unicast_peers = ["10.0.0.3"]
ttl_min = 255

[vrrp.authentication]
type = "pass"
password = "abc"

[[vrrp.track]]
port = "lan"
"#;

/// Parts of the good file with others in their place, in a row.
type Edits<'a> = &'a [(&'a str, &'a str)];

fn edited(text: &str, edits: Edits<'_>) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        text.replace(from, to)
    })
}

fn report(text: &str) -> Report {
    weir_config::parse("t", text).map_or_else(|report| report, |loaded| loaded.warnings)
}

/// The mistake is said with `cause` and `help`, and nothing else is; and when `followed` is done, the file is good.
#[track_caller]
fn helps(mistake: Edits<'_>, cause: &str, help: &str, followed: Edits<'_>) {
    let wrong = edited(GOOD, mistake);
    let said = report(&wrong);
    let lines: Vec<String> = said.one_liners().map(|(_, line)| line).collect();
    assert_eq!(lines.len(), 1, "{said}\n---- of\n{wrong}");
    assert!(lines[0].contains(cause) && lines[0].contains(&format!("(help: {help}")), "{}", lines[0]);
    let mended = edited(&wrong, followed);
    let said = report(&mended);
    assert!(said.is_empty(), "{said}\n---- of\n{mended}");
}

#[test]
fn the_file_is_good() {
    assert!(report(GOOD).is_empty(), "{}", report(GOOD));
}

#[test]
fn tables_before_the_one_that_they_belong_to() {
    let (server, real) = (
        "[[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n",
        "[[virtual_server.real_server]]\naddress = \"10.0.0.12\"\n",
    );
    let marked = "[[virtual_server]]\nname = \"marked\"\nmark = 7\n\n";
    helps(
        &[(marked, ""), (real, &format!("{real}\n{marked}"))],
        "[[virtual_server.real_server]] before its [[virtual_server]]",
        "move this table below [[virtual_server]] and its keys",
        &[(&format!("{real}\n{marked}"), &format!("{marked}{real}"))],
    );
    let alone = "[virtual_server.health_check]\ntype = \"tcp\"\n";
    let text = format!("{}{alone}", &GOOD[..GOOD.find("[[mark]]").unwrap()]);
    let said = report(&text).one_liners().map(|(_, line)| line).collect::<Vec<_>>();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("write [[virtual_server]] and its keys above this line"), "{said:?}");
    let mended = text.replace(alone, &format!("{server}{alone}{real}"));
    assert!(report(&mended).is_empty(), "{}", report(&mended));
}

#[test]
fn single_brackets_hide_nothing_that_is_inside() {
    for (single, several) in [("[port]", "[[port]]"), ("[mark]", "[[mark]]"), ("[vrrp]", "[[vrrp]]")] {
        let help = format!("write {several}");
        helps(&[(several, single)], "in single brackets", &help, &[(single, several)]);
    }
    let wrong = GOOD
        .replace("[[virtual_server]]", "[virtual_server]")
        .replace("[[vrrp.track]]", "[vrrp.track]")
        .replace("port = 80\npers", "port = 80000\nscheduler = \"wcl\" # x\npers")
        .replace("port = \"lan\"\nvirtual", "port = \"lam\"\nvirtual");
    let said: Vec<String> = report(&wrong).one_liners().map(|(_, line)| line).collect();
    let line_of = |part: &str| wrong[..wrong.find(part).unwrap()].lines().count() + 1;
    let wanted = [
        format!("t:{}:1: [virtual_server] in single brackets", line_of("[virtual_server]\nname = \"marked")),
        format!("t:{}:1: [virtual_server] in single brackets", line_of("[virtual_server]\nname = \"web")),
        format!("t:{}:8: `port` is out of range", line_of("port = 80000")),
        format!("t:{}:13: unknown scheduler `wcl`", line_of("scheduler")),
        format!("t:{}:8: unknown port `lam`", line_of("port = \"lam\"")),
        format!("t:{}:1: [vrrp.track] in single brackets", line_of("[vrrp.track]")),
    ];
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for (said, wanted) in said.iter().zip(&wanted) {
        assert!(said.starts_with(wanted), "{said}\n{wanted}");
    }
}

#[test]
fn quotes_that_are_none() {
    for (good, wrong) in [
        ("name = \"web\"", "name = “web”"),
        ("name = \"web\"", "name = „web“ # x"),
        ("name = \"web\"", "name = ‘web’"),
        ("addresses = [\"10.0.0.2/24\"]", "addresses = [“10.0.0.2/24”]"),
    ] {
        let value = good.split('"').nth(1).unwrap();
        let help = format!("write \"{value}\", in straight quotes");
        helps(&[(good, wrong)], "typographic quotes", &help, &[(wrong, good)]);
    }
    let mixed = "name = \"web”";
    helps(
        &[("name = \"web\"", mixed)],
        "not TOML",
        "write straight quotes in this line",
        &[(mixed, "name = \"web\"")],
    );
    for (good, wrong) in [
        ("\"10.0.0.100\"\nport", "10.0.0.100\nport"),
        ("[\"10.0.0.2/24\"]", "[10.0.0.2/24]"),
        ("\"127.0.0.1:9292\"", "127.0.0.1:9292"),
        ("\"web\"", "web"),
    ] {
        let value = good.split('"').nth(1).unwrap();
        helps(&[(good, wrong)], "not TOML", &format!("write \"{value}\""), &[(wrong, good)]);
    }
    // An apostrophe in a comment is nobody's quote.
    let said = report(&GOOD.replace("name = \"web\"", "name = web # don’t")).to_string();
    assert!(said.ends_with("help: write \"web\""), "{said}");
}

/// What the good file's check is with this line in it.
fn said_of(line: &str) -> String {
    let place = "status = [200]\n";
    let keys = [
        ("notify_up", "persistence_timeout = 300\n"),
        ("upper_threshold", "address = \"10.0.0.11\"\n"),
        ("weight", "address = \"10.0.0.11\"\n"),
        ("virtual_router_id", "garp_master_repeat = 1\n"),
        ("ports", "mark = 7\naddresses"),
    ];
    let place = keys.iter().find(|(key, _)| line.starts_with(key)).map_or(place, |(_, place)| place);
    let good = match place {
        "garp_master_repeat = 1\n" => GOOD.replace("virtual_router_id = 51\n", place),
        _ => GOOD.to_owned(),
    };
    let text = match place.strip_suffix("addresses") {
        Some(before) => edited(&good, &[(place, &format!("{before}{line}\naddresses"))]),
        None => edited(&good, &[(place, &format!("{place}{line}\n"))]),
    };
    report(&text).to_string()
}

#[test]
fn a_value_is_repeated_whole_or_not_at_all() {
    let url = "[[virtual_server.health_check.url]]\n";
    for (line, help) in [
        ("expect_body = “status=ok”", "write \"status=ok\", in straight quotes"),
        ("expect_body = “one, two”", "write \"one, two\", in straight quotes"),
        ("expect_body = “[a]{b}”", "write \"[a]{b}\", in straight quotes"),
        ("expect_body = “a # b” # c", "write \"a # b\", in straight quotes"),
        ("expect_body = status=ok", "write \"status=ok\""),
        ("expect_body = status=ok # x", "write \"status=ok\""),
        ("expect_body = one, two", "write each string whole, in double quotes"),
        ("expect_body = one#two", "write each string whole, in double quotes"),
        ("expect_body = one interval = 3", "write each string whole, in double quotes"),
        ("host = “a=b”", "write \"a=b\", in straight quotes"),
        ("host = “a=b", "write the whole value in straight quotes"),
        ("weight_file = “/run/w=1”", "write \"/run/w=1\", in straight quotes"),
        ("weight_file = /run/w=1", "write \"/run/w=1\""),
        ("path = “/x?token=abc”", "write the whole value in straight quotes"),
        ("path = /x?token=abc", "write each string whole, in double quotes"),
        ("path = /x?8Z8Z8Z8Z=1", "write each string whole, in double quotes"),
        ("request_body = hunter2", "write each string whole, in double quotes"),
        ("notify_up = “/usr/bin/page -k S3CR3T-9 --to=ops”", "write the whole value in straight quotes"),
        ("command = /usr/lib/chk -p S3CR3T-9 --db=main", "write each string whole, in double quotes"),
        ("ports = [8000-8999, 1-2=3]", "write \"8000-8999\""),
        ("ports = [1-2=3]", ""),
        ("ports = +[\"8000-8999\"]", "remove what stands before the bracket"),
    ] {
        let said = said_of(line);
        assert!(said.contains(line.split(' ').next().unwrap()), "{said}");
        match help {
            "" => assert!(!said.contains("help: "), "{line}: {said}"),
            _ => assert!(said.contains(&format!("= help: {help}")), "{line}: {said}"),
        }
        if line.starts_with("path") {
            let said = said_of(&format!("{url}{line}"));
            assert!(said.contains(&format!("= help: {help}")), "{line}: {said}");
        }
        for secret in ["S3CR3T", "8Z8Z", "token", "hunter2"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    let long = "x".repeat(65);
    let said = said_of(&format!("expect_body = {long}"));
    assert!(said.ends_with("help: write each string whole, in double quotes"), "{said}");
}

#[test]
fn arrays_of_tables_are_written_below_their_headers() {
    let form = |name: &str| format!("write [[{name}]] on a line of its own, and the keys of one below it");
    for name in ["route", "neighbor", "mark", "virtual_server", "vrrp", "port"] {
        for value in ["\"0.0.0.0/0\"", "7", "true", "[\"10.0.0.1\"]", "[7]", "1.5"] {
            let said = report(&format!("{name} = {value}\n")).to_string();
            assert!(said.contains(&format!("= help: {}", form(name))), "{said}");
        }
    }
    let tracked = "[[vrrp]]\nname = \"vi\"\ntrack = \"lan\"\n";
    assert!(report(tracked).to_string().contains(&form("vrrp.track")));
    for (real_server, help) in [
        ("\"10.0.0.11:80\"", "write [{ address = \"10.0.0.11\", port = 80 }]".to_owned()),
        ("[\"10.0.0.11\"]", "write { address = \"10.0.0.11\" }".to_owned()),
        ("\"rs1\"", form("virtual_server.real_server")),
    ] {
        let said =
            report(&format!("[[virtual_server]]\nname = \"web\"\nreal_server = {real_server}\n")).to_string();
        assert!(said.contains(&format!("= help: {help}")), "{said}");
    }
    let url =
        "[[virtual_server]]\nname = \"web\"\n[virtual_server.health_check]\ntype = \"http\"\nurl = \"/up\"\n";
    assert!(
        report(url).to_string().contains("= help: write each page as a table, in brackets: url = [{ path = ")
    );
}

#[test]
fn keys_that_take_no_text_say_what_they_take() {
    let number = "write a whole number, without quotes or a unit";
    for (line, cause, help) in [
        ("port = 80ms", "expected a whole number", number),
        ("upper_threshold = 100%", "expected a whole number", number),
        ("virtual_router_id = yes", "expected a whole number", number),
        ("weight = “3”", "expected a whole number", "write 3 without the quotes"),
        ("weight = “3=4”", "expected a whole number", number),
        ("interval = soon", "expected a number", "write a number, without quotes or a unit"),
        ("interval = “5m”", "a number of seconds has no unit", "write 300"),
        ("dynamic_weight = yes", "expected true or false", "write `true` or `false`, without quotes"),
        ("ports = 8000-8999", "expected an array", "write [\"8000-8999\"], in brackets"),
        ("notify_up = “/bin/page”", "expected an array", "write [\"/bin/page\"], in brackets"),
    ] {
        let said = said_of(line);
        assert!(said.contains(cause) && said.contains(&format!("= help: {help}")), "{line}: {said}");
    }
    let wrong = "sorry_server = { address = \"10.0.0.9\", port = 80x }";
    let said = report(&edited(GOOD, &[("sorry_server = { address = \"10.0.0.9\", port = 80 }", wrong)]));
    assert!(said.to_string().ends_with(&format!("help: {number}")), "{said}");
}

/// In every table that a good file has.
#[test]
fn every_number_and_switch_is_known_for_one() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ok");
    let mut looked_at = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(" = ") else { continue };
            if value.parse::<f64>().is_ok() || value == "true" || value == "false" {
                let said = report(&text.replacen(line, &format!("{key} = “x”"), 1)).to_string();
                assert!(said.contains(" expected ") && said.contains("without quotes"), "{said}");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 100, "{looked_at}");
}

#[test]
fn listeners() {
    for (wrong, cause) in [
        ("9292", "the address is missing"),
        ("\"9292\"", "the address is missing"),
        ("\":9292\"", "the address is missing"),
        ("\"127.0.0.1\"", "the port is missing"),
        ("\"localhost:9292\"", "host names are not looked up"),
    ] {
        let wrong = format!("listen = {wrong}");
        let good = "\"127.0.0.1:9292\"";
        helps(
            &[("listen = \"127.0.0.1:9292\"", &wrong)],
            cause,
            &format!("write {good}"),
            &[(&wrong, &format!("listen = {good}"))],
        );
    }
}

#[test]
fn routes_and_marks() {
    let wrong = "destination = \"default\"";
    helps(
        &[("destination = \"0.0.0.0/0\"", wrong)],
        "all addresses are a network, too",
        "write \"0.0.0.0/0\"",
        &[(wrong, "destination = \"0.0.0.0/0\"")],
    );
    let [wrong, good] = ["destination = \"default\"", "addresses = [\"192.0.2.0/24\"]"];
    let said = report(&GOOD.replace(good, wrong)).to_string();
    assert!(
        said.contains(
            "write `addresses`, an array of addresses and networks: `addresses = [\"192.0.2.0/24\"]`"
        ),
        "{said}"
    );
    let everything = GOOD.replace(good, "addresses = [\"any\"]");
    let said = report(&everything).to_string();
    assert!(said.contains("help: write \"0.0.0.0/0\""), "{said}");
    let followed = everything.replace("\"any\"", "\"0.0.0.0/0\"");
    assert!(weir_config::parse("t", &followed).is_ok(), "{}", report(&followed));
    let [wrong, good] = ["device = \"03:00.0\"", "device = \"0000:03:00.0\""];
    helps(&[(good, wrong)], "a PCI address without its domain", "write \"0000:03:00.0\"", &[(wrong, good)]);
}

#[test]
fn words_of_keepalived() {
    let web = "port = 80\npersistence_timeout = 300\n";
    let plain = "type = \"http\"\nstatus = [200]\n";
    let track = "[[vrrp.track]]\nport = \"lan\"\n";
    let vrrp = "ttl_min = 255\n";
    let password = "type = \"pass\"\npassword = \"abc\"\n";
    let md5 = "0123456789abcdef0123456789abcdef";
    let pages = format!("{plain}[[virtual_server.health_check.url]]\npath = \"/\"\n");
    // Where, what was written there, the help, and what is written instead.
    let cases: &[(&str, &str, &str, &str)] = &[
        (web, "ip_family = \"inet\"\n", "remove it: the `address` says it", ""),
        (
            "mark = 7\n\n",
            "ip_family = \"inet\"\n",
            "remove it: the `address` says it; a virtual server of a `mark` has `family`",
            "family = \"ipv4\"\n",
        ),
        (web, "sorry_server_inhibit = true\n", "remove it: `sorry_mode`", ""),
        (web, "smtp_alert = true\n", "remove it: weir sends no mail", ""),
        (vrrp, "smtp_alert = true\n", "remove it: weir sends no mail", ""),
        (vrrp, "max_ttl = 255\n", "write `ttl_max`", "ttl_max = 255\n"),
    ];
    for (at, wrong, help, good) in cases {
        let wrong = &format!("{at}{wrong}");
        helps(&[(at, wrong)], "unknown key", help, &[(wrong, &format!("{at}{good}"))]);
    }
    let replaced: &[(&str, &str, &str)] = &[
        (vrrp, "min_ttl = 255\n", "write `ttl_min`"),
        (track, "[[vrrp.track]]\ninterface = \"lan\"\n", "write `port`, the name of a [[port]]"),
    ];
    for (good, wrong, help) in replaced {
        let said = report(&edited(GOOD, &[(good, wrong)])).to_string();
        assert!(said.contains(&format!("help: {help}")), "{said}");
    }
    let said = report(&edited(GOOD, &[(track, "[[vrrp.track]]\nscript = \"chk\"\n")])).to_string();
    assert!(said.contains("write [\"chk\"], in brackets"), "{said}");
    for followed in ["virtual_server = \"web\"", "file = \"/run/number\"", "process = \"nginx\""] {
        let text = edited(GOOD, &[(track, &format!("[[vrrp.track]]\n{followed}\n"))]);
        assert!(report(&text).is_empty(), "{}", report(&text));
    }
    let said =
        report(&edited(GOOD, &[(password, "auth_type = \"pass\"\nauth_pass = \"abc\"\n")])).to_string();
    assert!(
        said.contains("write `type`, with \"pass\" or \"ah\"") && said.contains("write `password`, "),
        "{said}"
    );
    let said = report(&edited(GOOD, &[(plain, "type = \"dns\"\nname = \"example.org\"\n")])).to_string();
    assert!(said.contains("write `query`, "), "{said}");
    let text = edited(GOOD, &[(plain, "type = \"dns\"\nquery = \"example.org\"\n")]);
    assert!(report(&text).is_empty(), "{}", report(&text));
    let records = "type = \"A\"\nquery = \"example.org\"\n";
    helps(
        &[(plain, records)],
        "unknown health check `A`",
        "write `type = \"dns\"` and `record = \"A\"`",
        &[("type = \"A\"", "type = \"dns\"\nrecord = \"A\"")],
    );
    // keepalived has them in each url.
    for (wrong, help, good) in [
        (format!("digest = \"{md5}\"\n"), "write `expect_md5`", format!("expect_md5 = \"{md5}\"\n")),
        (
            "status_code = 200\n".to_owned(),
            "write `status`, an array: `status = [200]`",
            "status = [200]\n".to_owned(),
        ),
    ] {
        let (wrong, good) = (format!("{pages}{wrong}"), format!("{pages}{good}"));
        let edits = [(&*format!("{plain}timeout = 1\n"), &*wrong)];
        helps(&edits, "not a key of [[virtual_server.health_check.url]]", help, &[(&wrong, &good)]);
    }
}

#[test]
fn values_of_another_type() {
    let sorry = "sorry_server = { address = \"10.0.0.9\", port = 80 }";
    for wrong in ["sorry_server = \"10.0.0.9 80\"", "sorry_server = \"10.0.0.9:80\""] {
        let help = format!("write {}", sorry.split_once("= ").unwrap().1);
        helps(&[(sorry, wrong)], "expected a table, found a string", &help, &[(wrong, sorry)]);
    }
    for (good, wrong, help) in [
        ("status = [200]", "status = 200", "write [200], in brackets"),
        (
            "addresses = [\"10.0.0.2/24\"]",
            "addresses = \"10.0.0.2/24\"",
            "write [\"10.0.0.2/24\"], in brackets",
        ),
        ("persistence_timeout = 300", "persistence_timeout = \"5m\"", "write 300"),
        ("persistence_timeout = 300", "persistence_timeout = 5m", "write 300"),
        ("persistence_timeout = 300", "persistence_timeout = \"300\"", "write 300 without the quotes"),
        ("timeout = 1\n", "timeout = \"1s\"\n", "write 1"),
        ("timeout = 1\n", "timeout = 1000ms\n", "write 1"),
    ] {
        helps(&[(good, wrong)], "", help, &[(wrong, good)]);
    }
    let check = "[virtual_server.health_check]\ntype = \"http\"\nstatus = [200]\ntimeout = 1\n";
    let [wrong, good] = ["health_check = \"tcp\"\n", "health_check = { type = \"tcp\" }\n"];
    helps(&[(check, wrong)], "found a string", "write { type = \"tcp\" }", &[(wrong, good)]);
    // No duration, so no number of seconds is meant.
    let said = report(&GOOD.replace("mark = 7\n\n", "mark = 7\nquorum = \"5m\"\n\n")).to_string();
    assert!(
        said.contains("expected a whole number, found a string") && !said.contains("write 300"),
        "{said}"
    );
}

#[test]
fn stages_that_are_longer_than_the_check() {
    let cause = "`connect_timeout` is longer than the whole check";
    let wrong = "timeout = 1\nconnect_timeout = 1.5\n";
    helps(
        &[("timeout = 1\n", wrong)],
        cause,
        "write `timeout = 1.5`",
        &[("\ntimeout = 1\n", "\ntimeout = 1.5\n")],
    );
    let wrong = "timeout = 1\nconnect_timeout = 3\n";
    helps(
        &[("timeout = 1\n", wrong)],
        cause,
        "write `timeout = 3` and `interval = 3`",
        &[("\ntimeout = 1\n", "\ntimeout = 3\ninterval = 3\n")],
    );
}
