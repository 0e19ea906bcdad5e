//! Large texts, read in slices. The tokens and the tree of a text take twenty times its room, and of a large one that is what costs time. Those
//! of a slice take little, and the next slice has the same memory again.
//!
//! A slice begins with a header such as `[[virtual_server]]` at the beginning of a line. All before it is blank, so that every place
//! is what it is in the text. What is not as plain as that, or is no TOML, is left to who reads the text as a whole: a slice
//! that ends within a string or an array is no TOML, and tables that belong to one of another slice, or stand in two of them, are
//! known by their names.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::headers;
use crate::keys::Sieve;
use crate::report::Problem;
use crate::schema::File;
use crate::source::Source;

/// Bytes of a slice at least. The blanks before it are read, too, so smaller ones cost more.
const BYTES_MIN: usize = 1 << 20;

/// What a text says; its unknown keys are added to `problems`. `None`: it is to be read as a whole.
pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<(File, Source)> {
    let slices = slices(text, BYTES_MIN);
    if slices.len() < 2 {
        return None;
    }
    read_slices(text, &slices, problems)
}

pub(crate) fn read_slices(
    text: &str,
    slices: &[Range<usize>],
    problems: &mut Vec<Problem>,
) -> Option<(File, Source)> {
    let sieve = Sieve::new();
    let (mut unknown, mut names) = (Vec::new(), HashMap::new());
    let mut whole: Option<(File, Source)> = None;
    let mut padded = String::with_capacity(text.len());
    let mut former = 0..0;
    for slice in slices {
        padded.truncate(former.start);
        padded.push_str(&" ".repeat(former.len()));
        padded.push_str(&text[slice.clone()]);
        former = slice.clone();
        let mut tree = DeTable::parse(&padded).ok()?.into_inner();
        if !stands_alone(&tree, &padded, &mut names) || headers::are_suspicious(&tree) {
            return None;
        }
        sieve.remove_unknown(&mut tree, &mut unknown);
        let source = Source::of(&tree);
        let tree = toml::Spanned::new(0..text.len(), tree);
        let file = File::deserialize(Deserializer::from(tree)).ok()?;
        match &mut whole {
            Some((all, sources)) => {
                all.append(file);
                sources.append(source);
            }
            None => whole = Some((file, source)),
        }
    }
    // Which keys get advice of their own depends on the order in which they are looked at.
    if sieve.is_full() {
        return None;
    }
    problems.append(&mut unknown);
    whole
}

/// Whether the text of each name's tables is all in this slice, or they are several with headers of their own. `names` are those of the
/// slices before, with whether they are that.
fn stands_alone(tree: &DeTable<'_>, text: &str, names: &mut HashMap<String, bool>) -> bool {
    tree.iter().all(|(key, value)| {
        let before = text[..key.span().start].trim_end_matches([' ', '\t']);
        let is_several = matches!(value.get_ref(), DeValue::Array(_)) && before.ends_with("[[");
        let former = names.insert(key.get_ref().to_string(), is_several);
        former.is_none_or(|was_several| was_several && is_several)
    })
}

/// The slices of a text, which are the whole text.
fn slices(text: &str, bytes_min: usize) -> Vec<Range<usize>> {
    let mut slices = Vec::new();
    let mut start = 0;
    while let Some(cut) = next_header(text, start + bytes_min) {
        slices.push(start..cut);
        start = cut;
    }
    slices.push(start..text.len());
    slices
}

/// The next line from this byte on that is the header of one of several tables and of no part of one.
fn next_header(text: &str, from: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(from);
    let rest = text.get(from..)?;
    let is_header = |at: usize| {
        let name = &rest[at + 3..];
        let len = name.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
        len > 0 && name[len..].starts_with("]]")
    };
    rest.match_indices("\n[[").find(|(at, _)| is_header(*at)).map(|(at, _)| from + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::config_and_source;

    const HEAD: &str = "[http]\nlisten = \"127.0.0.1:9292\"\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
                        addresses = [\"10.0.0.2/8\"]\n";

    fn servers(count: usize) -> String {
        (0..count)
            .map(|number| {
                format!(
                    "[[virtual_server]]\nname = \"ü{number}\"\naddress = \"10.1.0.{number}\"\nport = {number}\n\
                     [[virtual_server.real_server]]\naddress = \"10.2.0.{number}\"\nwieght = 1\n\
                     [[route]]\ndestination = \"172.16.{number}.0/24\"\ngateway = \"10.0.0.1\"\n"
                )
            })
            .collect()
    }

    /// Both ways: the same configuration and the same problems at the same places.
    fn compare(text: &str, bytes_min: usize) -> Option<()> {
        let (mut by_slices, mut as_a_whole) = (Vec::new(), Vec::new());
        let (sliced, source) = config_and_source(text, Some(&slices(text, bytes_min)), &mut by_slices)?;
        let (whole, whole_source) = config_and_source(text, None, &mut as_a_whole).unwrap();
        assert_eq!(sliced, whole, "{text}");
        assert_eq!(format!("{source:?}"), format!("{whole_source:?}"), "{text}");
        let said = |problems: Vec<Problem>| crate::report::Report::new("t", text, problems).to_string();
        assert_eq!(said(by_slices), said(as_a_whole), "{text}");
        Some(())
    }

    #[test]
    fn slices_are_the_text_and_begin_with_a_header() {
        let text = HEAD.to_owned() + &servers(20);
        for bytes_min in [1, 100, 1000] {
            let slices = slices(&text, bytes_min);
            assert!(slices.len() > 2);
            assert_eq!(slices.iter().map(|slice| &text[slice.clone()]).collect::<String>(), text);
            assert!(slices[1..].iter().all(|slice| text[slice.clone()].starts_with("[[")));
        }
        assert_eq!(slices(&text, text.len()).len(), 1);
    }

    #[test]
    fn a_text_says_the_same_in_slices_and_as_a_whole() {
        let text = HEAD.to_owned() + &servers(20) + "[health]\nconcurrent_max = 0\n";
        for bytes_min in [1, 7, 100, 1000, text.len()] {
            assert_eq!(compare(&text, bytes_min), Some(()));
        }
        assert_eq!(
            compare(&text.replace("port = 7", "port = \"7\"").replace("10.2.0.3", "10.2.0.300"), 1),
            Some(())
        );
    }

    #[test]
    fn every_file_of_the_tests_says_the_same() {
        let mut sliced = 0;
        for kind in ["ok", "bad"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind);
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let text = std::fs::read_to_string(path).unwrap();
                    sliced += usize::from(compare(&text, 1).is_some());
                }
            }
        }
        assert!(sliced > 30, "{sliced}");
    }

    #[test]
    fn what_belongs_to_two_slices_is_read_as_a_whole() {
        let servers = servers(3);
        for part in [
            // Twice, in one and in the other form, as a part of a table of another slice.
            "[http]\nhosts = []\n",
            "[port]\nname = \"x\"\n",
            "[vault]\n[[route]]\n[vault]\n",
            "[[vrrp]]\nname = \"x\"\n[[route]]\n[[vrrp.track]]\nfile = \"/x\"\n",
            "[[vrrp]]\nname = \"x\"\n[[route]]\n[vrrp.authentication]\ntype = \"ah\"\n",
            "[[vrrp.track]]\nfile = \"/x\"\n[[vrrp]]\nname = \"x\"\n",
            "[[virtual_server]]\nname = \"x\"\n[[route]]\n[virtual_server.passive]\nwindow = 1\n",
            // A slice ends within it, or is no TOML.
            "[[mark]]\nname = \"\"\"\n[[route]]\n\"\"\"\n",
            "[[mark]]\naddresses = [\n[[route]]\n]\n",
            "[[mark]]\nname = 1\nname = 2\n",
            "[[mark\n",
        ] {
            let text = format!("{HEAD}{servers}{part}{servers}");
            assert_eq!(compare(&text, 1), None, "{part}");
        }
        let twice = format!("route = []\n{HEAD}{servers}");
        assert_eq!(compare(&twice, 1), None);
    }

    #[test]
    fn lines_in_any_order_are_read_alike() {
        let lines = [
            "[[virtual_server]]",
            "[[virtual_server.real_server]]",
            "[virtual_server.agent]",
            "[[port]]",
            "[[route]]",
            "[http]",
            "[vrrp]",
            "[[vrrp]]",
            "[[vrrp.track]]",
            "name = \"a\"",
            "port = 80",
            "address = \"10.0.0.1\"",
            "listen = \"x\"",
            "text = \"\"\"",
            "\"\"\"",
            "list = [",
            "]",
            "route = []",
            "vrrp.name = \"x\"",
            "# [[port]]",
            "",
        ];
        bolero::check!().with_type::<Vec<u8>>().for_each(|order| {
            let text: String = order
                .iter()
                .take(40)
                .map(|line| format!("{}\n", lines[usize::from(*line) % lines.len()]))
                .collect();
            let _ = compare(&text, 1);
        });
    }
}
