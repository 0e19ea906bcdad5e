//! All of a file but its virtual servers, which edits are read behind.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::parse;
use crate::report::{Problem, quoted};
use crate::source::{Keys, SERVERS, write, write_key};

/// The table of neighbours.
const NEIGHBORS: &str = "neighbor";

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    /// What edits are read behind. Without what VRRP tracks of virtual servers, and without neighbours: there may be thousands.
    text: String,
    /// Those: a virtual server is checked against none but one of its own address.
    neighbors: HashMap<IpAddr, Value>,
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
        let neighbors = take_neighbors(&mut besides);
        let mut text = String::new();
        besides.iter().for_each(|(key, value)| write_table(&mut text, key, value));
        let mut problems = Vec::new();
        parse::read(&text, &mut problems);
        let known = problems.iter().map(said).collect();
        Self { text, neighbors, tables, tracked, known }
    }

    /// The text that a virtual server with these keys is read behind.
    pub(super) fn text_for(&self, keys: &Keys) -> String {
        let mut text = self.text.clone();
        let address = keys.get("address").and_then(Value::as_str).and_then(|text| text.parse().ok());
        if let Some(neighbor) = address.and_then(|address: IpAddr| self.neighbors.get(&address)) {
            write_table(&mut text, NEIGHBORS, &Value::Array(vec![neighbor.clone()]));
        }
        text
    }
}

fn write_table(text: &mut String, key: &str, value: &Value) {
    write_key(text, key);
    *text += " = ";
    write(text, value);
    text.push('\n');
}

/// Takes out neighbours.
fn take_neighbors(tables: &mut Keys) -> HashMap<IpAddr, Value> {
    let Some(Value::Array(neighbors)) = tables.remove(NEIGHBORS) else { return HashMap::new() };
    let address = |neighbor: &Value| neighbor.get("address").and_then(Value::as_str)?.parse().ok();
    neighbors.into_iter().filter_map(|neighbor| Some((address(&neighbor)?, neighbor))).collect()
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
