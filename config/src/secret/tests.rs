use super::*;

fn shown(text: &str) -> String {
    hidden(text, &spans(text))
}

#[test]
fn lists_name_keys_that_exist() {
    for key in [&SECRET[..], &FIELDS, &PROGRAMS, &PATHS].concat() {
        assert!(KNOWN.0.contains(key), "{key}");
    }
    // Of a name that is both a table and a plain key, values are shown.
    let both: HashSet<&str> = KNOWN.0.intersection(&KNOWN.1).copied().filter(|key| is_plain(key)).collect();
    assert_eq!(both, HashSet::from(["port", "mark", "virtual_server"]));
}

#[test]
fn values_are_shown_under_keys_that_hold_no_secret() {
    for (text, wanted) in [
        ("port = 80", "port = 80"),
        ("address = 10.0.0.1 80", "address = 10.0.0.1 **"),
        ("name = \"web\" # x y", "name = \"web\" # * *"),
        ("[http] listen = 9292", "[http] listen = 9292"),
        ("health_check.port = 1", "health_check.port = 1"),
        ("addresses = [ # a\n  \"a\",\n  \"b\" ]", "addresses = [ # *\n  \"a\",\n  \"b\" ]"),
        ("passive = { window = 3 }", "passive = { window = 3 }"),
        ("port 80", "port 80"),
        ("address \"10.0.0.1\" x", "address \"10.0.0.1\" *"),
        ("virtual_server 10.0.0.100 80 {", "virtual_server 10.0.0.100 80 {"),
        ("name = “web”", "name = “web”"),
        ("name = \"web\nport = 80", "name = \"web\nport = 80"),
        ("alpha = true", "alpha = true"),
        ("request_header = [\"Accept: a\", \"b:c\"]", "request_header = [\"Accept:**\", \"***\"]"),
        ("command = [\"/bin/a\", \"-u\", \"b\"]", "command = [\"/bin/a\", \"**\", \"*\"]"),
        ("command = \"/bin/a -u b\"", "command = \"/bin/a ** *\""),
        ("path = \"/a?key=b\"", "path = \"/a******\""),
        ("path = \"http://u:pw@h/\"", "path = \"**************\""),
        ("host = \"u:pw@h\"", "host = \"******\""),
        ("path = \"status/all?key=b\"", "path = \"status/all******\""),
        ("command = [\"curl\", \"b\"]", "command = [\"curl\", \"*\"]"),
        ("notify_up = \"./site.sh -u b\"", "notify_up = \"./site.sh ** *\""),
        (
            "[http]\nlisten = 1\n[a]\n[ vrrp . track ]\nport = 1",
            "[http]\nlisten = 1\n[a]\n[ vrrp . track ]\nport = 1",
        ),
        ("sorry_server = \"10.0.0.9 80\"", "sorry_server = \"10.0.0.9 80\""),
        ("health_check = \"tcp\"", "health_check = \"tcp\""),
        ("notify_up = [\"/x?b=1\"]", "notify_up = [\"/x****\"]"),
        ("path = \"/bin/a -u b=1\"", "path = \"/bin/a ** ***\""),
        ("type = \"tc”, send = a=b, x = \"", "type = \"****** **** * **** * * \""),
    ] {
        // Blanks stay blanks.
        let wanted = wanted.replace(":**", ": *");
        assert_eq!(shown(text), wanted);
    }
}

#[test]
fn all_other_values_are_hidden() {
    for (text, wanted) in [
        ("password = \"hunter2\"", "password = \"*******\""),
        ("\"password\"=\"hun\"ter2\"", "\"password\"=\"***\"*****"),
        ("authentication.password='é'", "authentication.password='**'"),
        ("authentication = \"x\"", "authentication = \"*\""),
        ("health_check = \"tcp x\"", "health_check = \"*** *\""),
        ("sorry_server = \"10.0.0.9 x\"", "sorry_server = \"******** *\""),
        ("basic-auth.port = \"x\"", "basic-auth.port = \"*\""),
        ("a = { type = \"pass\", port = 1 }", "a = { type = \"****\", port = * }"),
        ("a = { type = \"b\" }\nport = 1", "a = { type = \"*\" }\nport = 1"),
        ("health_check = { port = 1, b = 2 }", "health_check = { port = 1, b = * }"),
        ("health_check = { port = 1 b = 2 }", "health_check = { port = 1 * * * }"),
        ("health_check = { port = 1 send = 2 }", "health_check = { port = 1 send = * }"),
        ("health_check = { port 1, b = 2 }", "health_check = { **** ** * * * }"),
        ("pasword = 2\nport = 2", "pasword = *\nport = 2"),
        ("  auth_pass hunter2", "  ********* *******"),
        ("password hunter2", "password *******"),
        ("password =\n  \"x\"\nport = 2", "password =\n  \"*\"\nport = 2"),
        ("password =\nport = 2", "password =\nport = 2"),
        ("mh_seed = 7", "mh_seed = *"),
        ("send = \"\"\"a\nb\\\"\"\"\"\nport = 1", "send = \"\"\"*\n***\"\"\"\nport = 1"),
        ("send = '''a\nb", "send = '''*\n*"),
        ("send = \"a\nb = 1\nport = 1", "send = \"*\n* * *\nport = 1"),
        ("send = [\"a\",\n\"b\"\n[port]\nmac = 1", "send = [\"*\",\n\"*\"\n[port]\nmac = 1"),
        ("token", "*****"),
        (
            "[vault]\nname = \"b\"\nport 80\n[http]\nhosts = 1",
            "[vault]\nname = \"*\"\n**** **\n[http]\nhosts = 1",
        ),
        ("[http.a]\nname = \"b\"", "[http.a]\nname = \"*\""),
        ("[port.name]\nmtu = 1", "[port.name]\nmtu = *"),
        ("[vault\nname = 1", "[*****\nname = *"),
        ("[\"vault\"]\nname = 1", "[*******]\nname = *"),
        ("send = \"a\n[vault]\nname = 1", "send = \"*\n[*****]\nname = *"),
        ("path = \"hunter2\"", "path = \"*******\""),
        ("path = \"admin:b\"", "path = \"*******\""),
        ("path = \"Pass\"", "path = \"****\""),
        ("command = [\"-ub\", \"c\"]", "command = [\"***\", \"*\"]"),
        ("command = \"key=b\"", "command = \"*****\""),
    ] {
        assert_eq!(shown(text), wanted);
    }
}

#[test]
fn any_text_keeps_its_length_and_lines_and_is_hidden_once() {
    bolero::check!().with_type::<String>().for_each(|text| {
        let shown = shown(text);
        assert_eq!(shown.len(), text.len());
        assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        for span in spans(text).windows(2) {
            assert!(span[0].end <= span[1].start);
        }
    });
}
