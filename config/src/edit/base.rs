//! All of a file but its virtual servers, which edits are read behind.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::parse;
use crate::report::{Problem, quoted};
use crate::source::{Keys, SERVERS, write, write_key};

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    /// What edits are read behind. Without what VRRP tracks of virtual servers.
    pub(super) text: String,
    /// To be shown.
    pub(super) tables: Keys,
    /// Names of virtual servers that VRRP tracks, with where: `[[vrrp.track]] 2 of the [[vrrp]] vi`, the name in quotes.
    pub(super) tracked: HashMap<String, Vec<String>>,
    /// What the checks say of these tables alone: message and label.
    pub(super) known: HashSet<(String, String)>,
}

impl Base {
    pub(super) fn of(tables: Keys) -> Self {
        let mut besides = tables.clone();
        let tracked = take_tracked(&mut besides);
        let mut text = String::new();
        for (key, value) in &besides {
            write_key(&mut text, key);
            text += " = ";
            write(&mut text, value);
            text.push('\n');
        }
        let mut problems = Vec::new();
        parse::read(&text, &mut problems);
        let known = problems.iter().map(said).collect();
        Self { text, tables, tracked, known }
    }
}

/// What a problem says, wherever it is.
pub(super) fn said(problem: &Problem) -> (String, String) {
    let label = problem.place.as_ref().map_or_else(String::new, |place| place.label.clone());
    (problem.message.clone(), label)
}

/// Takes out what VRRP tracks of virtual servers, and tells their names and where they stand.
fn take_tracked(tables: &mut Keys) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    let instances = tables.get_mut("vrrp").and_then(Value::as_array_mut);
    for instance in instances.into_iter().flatten() {
        let own = instance.get("name").and_then(Value::as_str).map(quoted).unwrap_or_default();
        let Some(tracks) = instance.get_mut("track").and_then(Value::as_array_mut) else { continue };
        let mut place = 0;
        tracks.retain(|track| {
            place += 1;
            let Some(name) = track.get(SERVERS) else { return true };
            if let Some(name) = name.as_str() {
                let at = format!("[[vrrp.track]] {place} of the [[vrrp]] {own}");
                names.entry(name.to_owned()).or_default().push(at);
            }
            false
        });
    }
    names
}
