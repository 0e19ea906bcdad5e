//! Headers of tables that are not what they should be: in single brackets where several tables may stand, or before the table
//! that they belong to.
//!
//! TOML takes both for something else, complains at other places, and what stands in such a table is lost. So the cause is said
//! once, the text is mended, and the mended text is read: what else is wrong shows in the same report.

use toml::de::{DeTable, DeValue};

use crate::report::Problem;

/// Tables that may occur more than once.
pub(crate) const SEVERAL: [&str; 12] = [
    "port",
    "route",
    "neighbor",
    "mark",
    "virtual_server",
    "virtual_server.real_server",
    "virtual_server.health_check.url",
    "virtual_server.real_server.health_check.url",
    "vrrp",
    "vrrp.track",
    "vrrp_sync_group",
    "announce",
];

/// Of them, those that other tables belong to.
const OWNERS: [&str; 3] = ["virtual_server", "virtual_server.real_server", "vrrp"];

/// Problems said at most.
const PROBLEMS_MAX: usize = 10;

/// A text whose headers are as they were meant.
pub(crate) struct Mended {
    pub(crate) text: String,
    /// What was wrong, at its place in the text as it was.
    pub(crate) problems: Vec<Problem>,
    /// Whether tables were taken out.
    pub(crate) is_partial: bool,
    /// Where a bracket was put in.
    brackets: Vec<usize>,
}

impl Mended {
    /// Where in the text as it was this byte of the mended one stands.
    pub(crate) fn original(&self, byte: usize) -> usize {
        byte - self.brackets.partition_point(|bracket| *bracket < byte)
    }
}

/// Whether the tree has one table where several may stand. What TOML could not read is not in it.
pub(crate) fn are_suspicious(tree: &DeTable<'_>) -> bool {
    SEVERAL.iter().any(|path| holds_table(tree, path))
}

fn holds_table(tree: &DeTable<'_>, path: &str) -> bool {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let below = |value: &DeValue<'_>| match (value, rest) {
        (DeValue::Table(table), Some(rest)) => holds_table(table, rest),
        _ => false,
    };
    match tree.get(key).map(|value| value.get_ref()) {
        Some(DeValue::Table(_)) if rest.is_none() => true,
        Some(DeValue::Array(array)) => array.iter().any(|element| below(element.get_ref())),
        Some(value) => below(value),
        None => false,
    }
}

/// The text with such headers as they were meant; `None`: there are none.
pub(crate) fn mend(text: &str) -> Option<Mended> {
    let mut mended = Mended {
        text: String::with_capacity(text.len() + 64),
        problems: Vec::new(),
        is_partial: false,
        brackets: Vec::new(),
    };
    let mut scope = Scope::of(text);
    let mut start = 0;
    let mut is_cut = false;
    for line in text.split_inclusive('\n') {
        let header = line.split('#').next().unwrap_or_default().trim();
        let at = start + (line.len() - line.trim_start().len());
        start += line.len();
        let name = header.trim_start_matches('[').trim_end_matches(']').trim();
        if header.starts_with('[') && header.ends_with(']') {
            let lost = scope.enter(name);
            if let (Some(owner), false) = (lost, is_cut) {
                mended.problems.push(scope.orphan(header, at, owner));
            }
            is_cut = lost.is_some();
        }
        if is_cut {
            mended.is_partial = true;
            // Every place stays where it is.
            mended.text.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else if SEVERAL.contains(&name) && header.starts_with('[') && !header.starts_with("[[") {
            mended.problems.push(in_single_brackets(name, header, at));
            let indent = line.len() - line.trim_start().len();
            let (before, rest) = line.split_at(indent);
            mended.text.push_str(before);
            mended.bracket('[');
            mended.text.push_str(header);
            mended.bracket(']');
            mended.text.push_str(&rest[header.len()..]);
        } else {
            mended.text.push_str(line);
        }
    }
    mended.problems.truncate(PROBLEMS_MAX);
    (!mended.problems.is_empty()).then_some(mended)
}

impl Mended {
    fn bracket(&mut self, bracket: char) {
        self.brackets.push(self.text.len());
        self.text.push(bracket);
    }
}

fn in_single_brackets(name: &str, header: &str, at: usize) -> Problem {
    Problem::error(format!("[{name}] in single brackets"))
        .at(at..at + header.len(), "a table that may occur more than once has double brackets")
        .help(format!("write [[{name}]]"))
}

/// Which owners stand above.
struct Scope {
    is_there: [bool; OWNERS.len()],
    /// Owners that are still to come.
    ahead: [usize; OWNERS.len()],
}

impl Scope {
    fn of(text: &str) -> Self {
        let mut scope = Self { is_there: [false; OWNERS.len()], ahead: [0; OWNERS.len()] };
        for line in text.lines() {
            let words = line.split('#').next().unwrap_or_default().trim();
            for (index, owner) in OWNERS.iter().enumerate() {
                if words.starts_with('[') {
                    let name = words.trim_start_matches('[').trim_end_matches(']').trim();
                    scope.ahead[index] += usize::from(name == *owner);
                } else if let Some(rest) = words.strip_prefix(owner) {
                    // An array of inline tables: what belongs to it can't be told line by line.
                    scope.is_there[index] |= rest.trim_start().starts_with('=');
                }
            }
        }
        scope
    }

    /// To the table of this header. The owner that is missing above it, by its number.
    fn enter(&mut self, name: &str) -> Option<usize> {
        let of = |owner: &str| name.strip_prefix(owner).is_some_and(|rest| rest.starts_with('.'));
        let lost = OWNERS.iter().position(|owner| of(owner));
        let lost = lost.filter(|index| !self.is_there[*index]);
        // The outer owner is there, so it may be the inner one.
        let lost = lost.or_else(|| (of(OWNERS[1]) && !self.is_there[1]).then_some(1));
        if let Some(index) = OWNERS.iter().position(|owner| *owner == name).filter(|_| lost.is_none()) {
            self.is_there[index] = true;
            self.ahead[index] -= 1;
            if index == 0 {
                // Each virtual server has real servers of its own.
                self.is_there[1] = false;
            }
        }
        lost
    }

    fn orphan(&self, header: &str, at: usize, owner: usize) -> Problem {
        let name = OWNERS[owner];
        let help = match self.ahead[owner] {
            0 => format!("write [[{name}]] and its keys above this line"),
            _ => format!("move this table below [[{name}]] and its keys"),
        };
        Problem::error(format!("{header} before its [[{name}]]"))
            .at(at..at + header.len(), "a table stands below the one that it belongs to")
            .help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &str) -> (String, Vec<String>) {
        let mended = mend(text).unwrap();
        (mended.text, mended.problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn brackets_are_put_in_and_places_stay_known() {
        let text = "a = 1\n  [port] # x\nb = 2\n[[mark]]\n[http]\n[ virtual_server ]\nc = 3\n";
        let (found, said) = mended(text);
        assert_eq!(found, "a = 1\n  [[port]] # x\nb = 2\n[[mark]]\n[http]\n[[ virtual_server ]]\nc = 3\n");
        assert_eq!(said, ["[port] in single brackets", "[virtual_server] in single brackets"]);
        let mended = mend(text).unwrap();
        for word in ["a = 1", "# x", "b = 2", "[http]", "[ virtual", "c = 3"] {
            assert_eq!(mended.original(found.find(word).unwrap()), text.find(word).unwrap(), "{word}");
        }
        assert_eq!(mended.original(found.len()), text.len());
    }

    #[test]
    fn what_stands_before_its_owner_is_taken_out_and_said_once() {
        let text = "[[virtual_server.real_server]]\na = \"ü\"\n[virtual_server.agent]\nb = 1\n[[virtual_server]]\n\
                    [[virtual_server.real_server]]\n[[vrrp.track]]\n[http]\n";
        let (found, said) = mended(text);
        assert_eq!(found.len(), text.len());
        assert_eq!(
            found.split_whitespace().collect::<Vec<_>>(),
            ["[[virtual_server]]", "[[virtual_server.real_server]]", "[http]"]
        );
        assert_eq!(
            said,
            [
                "[[virtual_server.real_server]] before its [[virtual_server]]",
                "[[vrrp.track]] before its [[vrrp]]"
            ]
        );
        let inner = "[[virtual_server]]\n[[virtual_server.real_server]]\n[virtual_server.real_server.agent]\n\
                     [[virtual_server]]\n[virtual_server.real_server.agent]\n";
        let said = mended(inner).1;
        assert_eq!(said, ["[virtual_server.real_server.agent] before its [[virtual_server.real_server]]"]);
    }

    #[test]
    fn a_text_without_such_headers_is_left_alone() {
        for text in ["", "[[port]]\n[http]\n[vrrp.x", "virtual_server = []\n[[virtual_server.real_server]]\n"]
        {
            assert!(mend(text).is_none(), "{text}");
        }
    }
}
