//! `weirctl save`: what is in force, written into the file. Comments, order and everything that has not changed stay as they are.

mod comments;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value as Toml};
use weir_api::edits::{Changes, Desired, Reload, Reloaded};

use super::{Asked, print};
use crate::patiently;
use crate::weir::Problem;
use comments::Comments;

/// Keys of the answer that are none of the file's.
const NOT_IN_FILE: [&str; 2] = ["origin", "left_out"];
const REAL_SERVER: &str = "virtual_server.real_server";
/// What `ipvsadm --set` changes, with the defaults.
const TIMEOUTS: [(&str, u64); 3] = [("tcp_established", 900), ("tcp_fin_wait", 120), ("udp", 300)];

/// Writes the file, or with `dry_run` prints what it would hold.
pub(super) fn run(asked: &mut Asked, named: Option<&Path>, dry_run: bool) -> Result<(), Problem> {
    let path = &asked.file_or(named)?;
    let read = asked.file();
    let is_same = |other: &Path| {
        other == path || other.canonicalize().is_ok_and(|it| path.canonicalize().is_ok_and(|own| own == it))
    };
    let is_weirs = read.as_deref().is_some_and(is_same);
    let failed = |what: &str, problem: &dyn std::fmt::Display| {
        Problem::Failed(format!("{} can't be {what}: {problem}", path.display()))
    };
    let content = || patiently(path, || weir_config::read_file(path, weir_config::FILE_BYTES_MAX));
    let before = content();
    let before = before.map_err(|problem| failed("read", &problem))?;
    let before = String::from_utf8(before).map_err(|problem| failed("read", &problem))?;
    let style = Style::of(&before);
    // What was written into weir's file since it read that would be lost.
    let wanted = Reload { dry_run: true, keep_edits: true };
    let reloaded: Reloaded = asked.client.post("/api/v1/reload", &wanted)?;
    if reloaded.changed != Changes::default() {
        return Err(Problem::Failed(
            "weir's file says more than weir has read, so nothing is saved: see `weirctl reload --dry-run --keep-edits`, \
             and reload it first"
                .to_owned(),
        ));
    }
    let desired: Desired = asked.client.get("/api/v1/desired")?;
    if !desired.tables.contains_key("virtual_server") {
        return Err(Problem::Failed(
            "weir does not tell its virtual servers, so nothing is saved".to_owned(),
        ));
    }
    let after = merged(&before, &desired).map_err(|problem| failed("changed", &problem))?;
    let after = style.put_on(after);
    let told = |asked: &mut Asked, is_new: bool| {
        if asked.is_json {
            return asked.print_json(&json!({"file": path, "changed": is_new}));
        }
        let how =
            if is_new { "says what is in force now" } else { "says what is in force; it stays as it is" };
        print(&format!("{} {how}\n", path.display()))?;
        match &read {
            Some(read) if !is_weirs => print(&format!("weir reads another file, {}\n", read.display())),
            _ => Ok(()),
        }
    };
    if after == before && !dry_run {
        return told(asked, false);
    }
    // What is in force has been checked by weir; what stands around it in the file may have changed since.
    if let Err(report) = weir_config::parse(&path.display().to_string(), &after) {
        let report = report.render(false);
        return Err(Problem::Failed(format!(
            "{} would not be accepted any more, so it stays as it is\n{report}",
            path.display()
        )));
    }
    if dry_run {
        return print(&after);
    }
    if content().map_err(|problem| failed("read", &problem))? != before.as_bytes() {
        return Err(Problem::Failed(format!(
            "{} was written meanwhile, so it stays as it is: save again",
            path.display()
        )));
    }
    replace(path, &after).map_err(|problem| failed("written", &problem))?;
    if is_weirs {
        // The edits are the file's from now on, and no longer weir's alone. One that came meanwhile is kept.
        let kept = Reload { dry_run: false, keep_edits: true };
        asked.client.post::<Reloaded>("/api/v1/reload", &kept).map_err(|problem| {
            Problem::Failed(format!(
                "{} says what is in force now, and weir has not read it: {problem}",
                path.display()
            ))
        })?;
    }
    told(asked, true)
}

/// What an editor of TOML does not keep: the mark at the beginning, and the ends of lines.
struct Style {
    has_mark: bool,
    ends_in_return: bool,
}

impl Style {
    const MARK: char = '\u{feff}';

    fn of(text: &str) -> Self {
        Self { has_mark: text.starts_with(Self::MARK), ends_in_return: text.contains("\r\n") }
    }

    fn put_on(&self, text: String) -> String {
        let text = match self.ends_in_return {
            true => text.replace("\r\n", "\n").replace('\n', "\r\n"),
            false => text,
        };
        if self.has_mark { format!("{}{text}", Self::MARK) } else { text }
    }
}

/// Puts `text` in the place of a file at once, with its owner and mode: whoever reads it meanwhile reads one or the other.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // The file itself, where a link leads to it.
    let path = path.canonicalize()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Two at a time do not write into one.
    name.push(format!(".weirctl-new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let old = fs::metadata(&path)?;
    let written = (|| {
        let mut file = File::create(&new)?;
        file.set_permissions(old.permissions())?;
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The file's text with what is in force.
fn merged(text: &str, desired: &Desired) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|problem: toml_edit::TomlError| problem.to_string())?;
    let comments = Comments::take(&mut document);
    let wanted = tables(desired.tables.get("virtual_server"));
    let written =
        document.entry("virtual_server").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let written = written
        .as_array_of_tables_mut()
        .ok_or("its virtual servers are written as one value; write a [[virtual_server]] for each")?;
    let name_of = |table: &Table| table.get("name").and_then(Item::as_str).map(str::to_owned);
    written.retain(|table| {
        let name = name_of(table);
        wanted.iter().any(|it| it.get("name").and_then(Value::as_str) == name.as_deref())
    });
    for server in &wanted {
        let name = server.get("name").and_then(Value::as_str);
        let place = written.iter().position(|table| name_of(table).as_deref() == name);
        match place {
            Some(place) => {
                virtual_server(written.get_mut(place).ok_or("it changes while it is read")?, server)?
            }
            None if server.get("left_out") == Some(&json!(true)) => {
                let name = name.unwrap_or_default();
                return Err(format!(
                    "virtual server {name} is not in it, and has secrets that weir does not tell: write it there, or rename it there"
                ));
            }
            None => {
                let mut table = Table::new();
                virtual_server(&mut table, server)?;
                written.push(table);
            }
        }
    }
    if written.is_empty() {
        document.remove("virtual_server");
    }
    timeouts(&mut document, desired);
    comments.put_back(&mut document);
    Ok(document.to_string())
}

fn virtual_server(table: &mut Table, wanted: &Map<String, Value>) -> Result<(), String> {
    let port = wanted.get("port").cloned().unwrap_or_else(|| json!(0));
    let is_whole = wanted.get("left_out") != Some(&json!(true));
    let real_servers = tables(wanted.get("real_server"));
    let own: Map<String, Value> = wanted
        .iter()
        .filter(|(key, _)| *key != "real_server" && !NOT_IN_FILE.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    set_keys(table, &own, is_whole, ("virtual_server", &["real_server"]));
    if real_servers.is_empty() {
        table.remove("real_server");
        return Ok(());
    }
    let written = table.entry("real_server").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let written = written
        .as_array_of_tables_mut()
        .ok_or("real servers are written as one value; write a [[virtual_server.real_server]] for each")?;
    let socket_of = |address: Option<Value>, own_port: Option<Value>| {
        (address.unwrap_or_default(), own_port.unwrap_or_else(|| port.clone()))
    };
    let socket = |table: &Table| {
        let read = |key| table.get(key).and_then(json_of_item);
        socket_of(read("address"), read("port"))
    };
    let wanted_socket =
        |it: &Map<String, Value>| socket_of(it.get("address").cloned(), it.get("port").cloned());
    written.retain(|table| real_servers.iter().any(|it| wanted_socket(it) == socket(table)));
    for server in &real_servers {
        let place = written.iter().position(|table| socket(table) == wanted_socket(server));
        match place.and_then(|place| written.get_mut(place)) {
            // A port that is the virtual server's need not be written.
            Some(table) => set_keys(table, server, is_whole, (REAL_SERVER, &["port"])),
            None => {
                let mut table = Table::new();
                set_keys(&mut table, server, true, (REAL_SERVER, &[]));
                written.push(table);
            }
        }
    }
    Ok(())
}

/// Gives a table the keys that are wanted. What is equal stays as it is written; keys in `apart` are not looked at, and those that
/// nobody wants go only if `is_whole`. What is new comes in the order of the reference.
fn set_keys(table: &mut Table, wanted: &Map<String, Value>, is_whole: bool, (kind, apart): (&str, &[&str])) {
    if is_whole {
        let gone: Vec<String> = table
            .iter()
            .map(|(key, _)| key.to_owned())
            .filter(|key| !wanted.contains_key(key) && !apart.contains(&key.as_str()))
            .collect();
        for key in gone {
            table.remove(&key);
        }
    }
    let order = weir_config::keys_of(kind).unwrap_or_default();
    let mut pairs: Vec<_> = wanted.iter().filter(|(key, _)| !apart.contains(&key.as_str())).collect();
    pairs.sort_by_key(|(key, _)| order.iter().position(|known| known == key));
    for (key, value) in pairs {
        if table.get(key).and_then(json_of_item).as_ref() == Some(value) {
            continue;
        }
        let Some(new) = toml_of(value) else { continue };
        match table.get_mut(key).and_then(Item::as_value_mut) {
            // With the comment behind it.
            Some(old) => {
                let decor = old.decor().clone();
                *old = new;
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(key, Item::Value(new));
            }
        }
    }
}

fn timeouts(document: &mut DocumentMut, desired: &Desired) {
    let wanted = desired.tables.get("connections").and_then(|it| it.get("timeouts"));
    for (key, default) in TIMEOUTS {
        let wanted = wanted.and_then(|it| it.get(key)).and_then(Value::as_u64);
        let path = ["connections", "timeouts"];
        let written = document.get(path[0]).and_then(|it| it.get(path[1])).and_then(|it| it.get(key));
        let written = written.and_then(Item::as_integer).and_then(|secs| u64::try_from(secs).ok());
        if let Some(secs) = wanted.filter(|secs| *secs != written.unwrap_or(default)) {
            let mut implicit = Table::new();
            implicit.set_implicit(true);
            let connections = document.entry(path[0]).or_insert(Item::Table(implicit));
            if let Some(connections) = connections.as_table_like_mut() {
                let timeouts = connections.entry(path[1]).or_insert(Item::Table(Table::new()));
                timeouts[key] = toml_edit::value(i64::try_from(secs).unwrap_or(i64::MAX));
            }
        }
    }
}

fn tables(value: Option<&Value>) -> Vec<Map<String, Value>> {
    let all = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(Value::as_object).cloned().collect()
}

/// As JSON; `None` for what JSON has no word for.
pub(super) fn json_of(value: &Toml) -> Option<Value> {
    Some(match value {
        Toml::String(text) => json!(text.value()),
        Toml::Integer(number) => json!(number.value()),
        // JSON has no word for those without end, and would take null for them.
        Toml::Float(number) if !number.value().is_finite() => return None,
        Toml::Float(number) => json!(number.value()),
        Toml::Boolean(is) => json!(is.value()),
        Toml::Datetime(_) => return None,
        Toml::Array(all) => Value::Array(all.iter().map(json_of).collect::<Option<_>>()?),
        Toml::InlineTable(table) => {
            let pairs = table.iter().map(|(key, value)| Some((key.to_owned(), json_of(value)?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
    })
}

fn json_of_item(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => json_of(value),
        Item::Table(table) => json_of_table(table),
        Item::ArrayOfTables(all) => Some(Value::Array(all.iter().map(json_of_table).collect::<Option<_>>()?)),
    }
}

fn json_of_table(table: &Table) -> Option<Value> {
    let pairs = table.iter().map(|(key, item)| Some((key.to_owned(), json_of_item(item)?)));
    Some(Value::Object(pairs.collect::<Option<_>>()?))
}

/// As TOML; `None` for null, which TOML has no word for.
fn toml_of(value: &Value) -> Option<Toml> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(is) => (*is).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(all) => all.iter().map(toml_of).collect::<Option<Array>>()?.into(),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| Some((key, toml_of(value)?)));
            pairs.collect::<Option<InlineTable>>()?.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# The director of rack 3.
[[port]]
name = "lan"          # the only one
device = "x"
addresses = ["10.0.0.2/16"]

# Shop.
[[virtual_server]]
scheduler = "wlc"     # as ever
name = "web"
address = "192.0.2.1"
port = 80

  # Old machine.
  [[virtual_server.real_server]]
  address = "10.0.0.11"
  weight = 2          # half

  [[virtual_server.real_server]]
  address = "10.0.0.12"

  [virtual_server.health_check]
  type = "tcp"

[[virtual_server]]
name = "old"
address = "192.0.2.1"
port = 81
"#;

    fn desired() -> Value {
        json!({"virtual_server": [{
            "name": "web", "origin": "file", "scheduler": "wlc", "address": "192.0.2.1", "port": 80,
            "health_check": {"type": "tcp"},
            "real_server": [{"address": "10.0.0.11", "weight": 2}, {"address": "10.0.0.12"}],
        }, {"name": "old", "origin": "file", "address": "192.0.2.1", "port": 81}]})
    }

    fn save(text: &str, desired: Value) -> String {
        let saved = merged(text, &serde_json::from_value(desired).unwrap()).unwrap();
        weir_config::parse("weir.toml", &saved).unwrap();
        saved
    }

    #[test]
    fn a_file_that_is_in_force_stays_to_the_byte() {
        assert_eq!(save(FILE, desired()), FILE);
    }

    #[test]
    fn ends_of_lines_and_the_mark_at_the_beginning_stay() {
        let mut wanted = desired();
        wanted["virtual_server"][0]["real_server"][0]["weight"] = json!(7);
        let expected = FILE.replace("weight = 2 ", "weight = 7 ");
        let lines = |text: &str| text.replace('\n', "\r\n");
        let marked = |text: &str| format!("\u{feff}{text}");
        for (text, expected) in [
            (FILE.to_owned(), expected.clone()),
            (lines(FILE), lines(&expected)),
            (marked(FILE), marked(&expected)),
            (marked(&lines(FILE)), marked(&lines(&expected))),
        ] {
            let saved = merged(&text, &serde_json::from_value(wanted.clone()).unwrap()).unwrap();
            assert_eq!(Style::of(&text).put_on(saved), expected);
            let saved = merged(&text, &serde_json::from_value(desired()).unwrap()).unwrap();
            assert_eq!(Style::of(&text).put_on(saved), text);
        }
    }

    #[test]
    fn what_was_changed_is_changed_and_nothing_else() {
        let mut wanted = desired();
        let web = &mut wanted["virtual_server"][0];
        web["scheduler"] = json!("wrr");
        web["real_server"][0]["weight"] = json!(7);
        web["real_server"][1]["weight"] = json!(0);
        let saved = save(FILE, wanted);
        let expected = FILE
            .replace("scheduler = \"wlc\"     # as ever", "scheduler = \"wrr\"     # as ever")
            .replace("weight = 2          # half", "weight = 7          # half")
            .replace("address = \"10.0.0.12\"\n", "address = \"10.0.0.12\"\nweight = 0\n");
        assert_eq!(saved, expected);
    }

    #[test]
    fn what_was_added_is_at_the_end_and_what_was_removed_is_gone() {
        let mut wanted = desired();
        let servers = wanted["virtual_server"].as_array_mut().unwrap();
        servers.remove(1);
        servers[0]["real_server"].as_array_mut().unwrap().remove(0);
        servers.push(json!({"name": "tcp-192.0.2.9:80", "origin": "edit", "protocol": "tcp", "address": "192.0.2.9",
            "port": 80, "scheduler_flags": [], "real_server": [{"address": "10.0.0.13", "forwarding": "nat", "port": 8080}]}));
        let saved = save(FILE, wanted.clone());
        assert!(
            !saved.contains("old") && !saved.contains("10.0.0.11") && saved.contains("# Shop."),
            "{saved}"
        );
        let added = "[[virtual_server]]\nname = \"tcp-192.0.2.9:80\"\naddress = \"192.0.2.9\"\nport = 80\n";
        assert!(saved.contains(added), "{saved}");
        let config = weir_config::parse("weir.toml", &saved).unwrap().config;
        let names: Vec<_> = config.virtual_servers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["web", "tcp-192.0.2.9:80"]);
        assert_eq!(config.virtual_servers[1].real_servers[0].port, 8080);
        assert_eq!(save(&saved, wanted), saved, "saved twice is saved once");
    }

    #[test]
    fn what_is_commented_out_behind_a_server_stays_behind_it() {
        let off = "# [[virtual_server.real_server]]\n# address = \"10.0.0.99\"\n";
        let behind = |text: &str, what: &str| {
            let at = text.find(what).unwrap() + what.len();
            format!("{}{off}{}", &text[..at], &text[at..])
        };
        let second = "address = \"10.0.0.12\"\n";
        for place in [second, "type = \"tcp\"\n", "port = 81\n"] {
            let text = behind(FILE, place);
            assert_eq!(save(&text, desired()), text, "nothing is changed");
            // Others come and go around it.
            let mut wanted = desired();
            let servers = wanted["virtual_server"].as_array_mut().unwrap();
            let more = json!({"name": "new", "address": "192.0.2.1", "port": 82});
            servers.push(more.clone());
            servers[0]["real_server"].as_array_mut().unwrap().push(json!({"address": "10.0.0.13"}));
            servers[1]["real_server"] = json!([{"address": "10.0.0.14"}]);
            assert_eq!(save(&text, wanted.clone()), behind(&save(FILE, wanted), place), "{place}");
            if place != "port = 81\n" {
                let mut wanted = desired();
                wanted["virtual_server"].as_array_mut().unwrap().truncate(1);
                assert_eq!(save(&text, wanted.clone()), behind(&save(FILE, wanted), place), "{place}");
            }
        }
        // One right above a header is that table's.
        let text = FILE.replace(
            "port = 81\n",
            "port = 81\n# Next.\n[[virtual_server]]\nname = \"b\"\naddress = \"192.0.2.2\"\nport = 80\n",
        );
        let mut wanted = desired();
        let servers = wanted["virtual_server"].as_array_mut().unwrap();
        servers.push(json!({"name": "b", "address": "192.0.2.2", "port": 80}));
        servers[1]["real_server"] = json!([{"address": "10.0.0.14"}]);
        let saved = save(&text, wanted);
        assert!(
            saved.contains("address = \"10.0.0.14\"\n# Next.\n[[virtual_server]]\nname = \"b\""),
            "{saved}"
        );
    }

    #[test]
    fn what_weir_does_not_tell_stays_in_the_file() {
        let text = FILE.replace("type = \"tcp\"", "type = \"file\"\nfile = \"/run/secret\"");
        let mut wanted = desired();
        let web = wanted["virtual_server"][0].as_object_mut().unwrap();
        web.remove("health_check");
        web.insert("left_out".to_owned(), json!(true));
        web["real_server"][0]["weight"] = json!(3);
        let saved = merged(&text, &serde_json::from_value(wanted).unwrap()).unwrap();
        assert!(saved.contains("/run/secret") && saved.contains("weight = 3 "), "{saved}");
    }

    #[test]
    fn timeouts_are_saved_where_they_differ() {
        let mut wanted = desired();
        wanted["connections"] =
            json!({"timeouts": {"tcp_established": 1000, "tcp_fin_wait": 120, "udp": 300}});
        let saved = save(FILE, wanted.clone());
        assert!(saved.contains("[connections.timeouts]\ntcp_established = 1000\n"), "{saved}");
        assert!(!saved.contains("udp = 300"), "{saved}");
        wanted["connections"]["timeouts"]["tcp_established"] = json!(900);
        assert!(save(&saved, wanted).contains("tcp_established = 900\n"));
    }

    #[test]
    fn a_file_is_replaced_at_once_with_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("weirctl-save-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, link) = (folder.join("weir.toml"), folder.join("link.toml"));
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
