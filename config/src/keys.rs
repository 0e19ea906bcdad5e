//! Unknown keys: all of them, each with the key that was meant.
//!
//! Runs on the parsed tree before it is deserialized, and takes the unknown keys out so that the known
//! ones of the same table are still checked. The known keys of a table are the fields of its struct in
//! `schema`; serde tells them, so they are written once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use toml::de::{DeTable, DeValue};

use crate::keepalived;
use crate::report::{Problem, quoted};
use crate::schema::{
    Agent, Announce, Connections, Control, File, Health, HealthCheck, Http, Mark, Memory, Neighbor, Passive,
    Port, RealServer, Route, Schedulers, Sync, Timeouts, Url, VirtualServer, Vrrp, VrrpAuthentication,
    VrrpHmac, VrrpSyncGroup, VrrpTrack, Workers,
};
use crate::suggest::nearest;

/// Removes every unknown key of the file and adds a problem for each.
pub(crate) fn remove_unknown(file: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
    Sieve::new().remove_unknown(file, problems);
}

/// The same for several slices of one file.
pub(crate) struct Sieve(Tables);

impl Sieve {
    pub(crate) fn new() -> Self {
        Self(Tables::default())
    }

    /// Whether there were so many different unknown keys that not all of them got advice of their own.
    pub(crate) fn is_full(&self) -> bool {
        self.0.given.borrow().len() >= ADVICE_MAX
    }

    /// Removes every unknown key of a slice and adds a problem for each.
    pub(crate) fn remove_unknown(&self, file: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
        sift_file(&self.0, file, problems);
    }
}

fn sift_file(tables: &Tables, file: &mut DeTable<'_>, p: &mut Vec<Problem>) {
    tables.sift("the file", file, p);
    below(file, "control", |t| tables.sift("[control]", t, p));
    below(file, "http", |t| tables.sift("[http]", t, p));
    below(file, "memory", |t| tables.sift("[memory]", t, p));
    below(file, "workers", |t| tables.sift("[workers]", t, p));
    below(file, "connections", |t| {
        tables.sift("[connections]", t, p);
        below(t, "timeouts", |t| tables.sift("[connections.timeouts]", t, p));
    });
    below(file, "schedulers", |t| tables.sift("[schedulers]", t, p));
    below(file, "sync", |t| tables.sift("[sync]", t, p));
    below(file, "health", |t| tables.sift("[health]", t, p));
    below(file, "port", |t| tables.sift("[[port]]", t, p));
    below(file, "route", |t| tables.sift("[[route]]", t, p));
    below(file, "neighbor", |t| tables.sift("[[neighbor]]", t, p));
    below(file, "mark", |t| tables.sift("[[mark]]", t, p));
    below(file, "virtual_server", |t| {
        tables.sift("[[virtual_server]]", t, p);
        below(t, "health_check", |t| tables.sift_check(t, p));
        below(t, "agent", |t| tables.sift("[virtual_server.agent]", t, p));
        below(t, "passive", |t| tables.sift("[virtual_server.passive]", t, p));
        below(t, "sorry_server", |t| tables.sift("[[virtual_server.real_server]]", t, p));
        below(t, "real_server", |t| {
            tables.sift("[[virtual_server.real_server]]", t, p);
            below(t, "health_check", |t| tables.sift_check(t, p));
            below(t, "agent", |t| tables.sift("[virtual_server.agent]", t, p));
        });
    });
    below(file, "vrrp", |t| {
        tables.sift("[[vrrp]]", t, p);
        below(t, "authentication", |t| tables.sift("[vrrp.authentication]", t, p));
        below(t, "track", |t| tables.sift("[[vrrp.track]]", t, p));
    });
    below(file, "vrrp_sync_group", |t| tables.sift("[[vrrp_sync_group]]", t, p));
    below(file, "announce", |t| tables.sift("[[announce]]", t, p));
}

/// The keys of a table of the file, in the order of the reference: `keys_of("virtual_server.real_server")`.
/// `None`: there is no such table.
pub fn keys_of(table: &str) -> Option<&'static [&'static str]> {
    KINDS.iter().find(|(kind, _)| kind.trim_matches(['[', ']']) == table).map(|(_, keys)| *keys)
}

/// Every kind of table with its keys.
pub(crate) fn all() -> &'static [(&'static str, &'static [&'static str])] {
    &KINDS
}

/// Calls `visit` with the table, or each table of the array, under `key`. A value of another type is left
/// to the deserializer's complaint.
fn below<'i>(table: &mut DeTable<'i>, key: &str, mut visit: impl FnMut(&mut DeTable<'i>)) {
    match table.get_mut(key).map(|value| value.get_mut()) {
        Some(DeValue::Table(inner)) => visit(inner),
        Some(DeValue::Array(array)) => {
            for element in array.iter_mut() {
                if let DeValue::Table(inner) = element.get_mut() {
                    visit(inner);
                }
            }
        }
        _ => {}
    }
}

/// Different unknown keys that get advice of their own. Finding the word that somebody meant takes time, and a broken generator
/// can write one on each line of a large file; the same one again costs nothing.
const ADVICE_MAX: usize = 1_000;

/// Every kind of table with its keys. Made once: it is asked for with each number of a file.
static KINDS: LazyLock<Vec<(&str, &[&str])>> = LazyLock::new(|| {
    vec![
        ("the file", fields_of::<File>()),
        ("[control]", fields_of::<Control>()),
        ("[http]", fields_of::<Http>()),
        ("[memory]", fields_of::<Memory>()),
        ("[workers]", fields_of::<Workers>()),
        ("[connections]", fields_of::<Connections>()),
        ("[connections.timeouts]", fields_of::<Timeouts>()),
        ("[schedulers]", fields_of::<Schedulers>()),
        ("[sync]", fields_of::<Sync>()),
        ("[health]", fields_of::<Health>()),
        ("[[port]]", fields_of::<Port>()),
        ("[[route]]", fields_of::<Route>()),
        ("[[neighbor]]", fields_of::<Neighbor>()),
        ("[[mark]]", fields_of::<Mark>()),
        ("[[virtual_server]]", fields_of::<VirtualServer>()),
        ("[[virtual_server.real_server]]", fields_of::<RealServer>()),
        ("[virtual_server.health_check]", fields_of::<HealthCheck>()),
        ("[[virtual_server.health_check.url]]", fields_of::<Url>()),
        ("[virtual_server.agent]", fields_of::<Agent>()),
        ("[virtual_server.passive]", fields_of::<Passive>()),
        ("[[vrrp]]", fields_of::<Vrrp>()),
        ("[vrrp.authentication]", fields_of::<VrrpAuthentication>()),
        ("[vrrp.auth_hmac]", fields_of::<VrrpHmac>()),
        ("[[vrrp.track]]", fields_of::<VrrpTrack>()),
        ("[[vrrp_sync_group]]", fields_of::<VrrpSyncGroup>()),
        ("[[announce]]", fields_of::<Announce>()),
    ]
});

/// The keys of every kind of table.
#[derive(Default)]
struct Tables {
    /// Advice already given, by kind of table and key.
    given: RefCell<HashMap<(String, String), String>>,
}

impl Tables {
    fn keys(&self, kind: &str) -> &'static [&'static str] {
        KINDS.iter().find(|(name, _)| *name == kind).map_or(&[], |(_, keys)| keys)
    }

    /// Takes the unknown keys out of one table.
    fn sift(&self, kind: &str, table: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
        let known = self.keys(kind);
        let unknown: Vec<_> =
            table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).cloned().collect();
        let has_unknown = !unknown.is_empty();
        for key in unknown {
            let name: &str = key.get_ref();
            let problem = Problem::error(format!("unknown key {}", quoted(name)))
                .at(key.span(), format!("not a key of {kind}"))
                .help(self.given(kind, name));
            problems.push(problem);
        }
        // At once: each that is taken out by itself moves all behind it.
        if has_unknown {
            let all = std::mem::replace(table, DeTable::new());
            for (key, value) in all.into_iter().filter(|(key, _)| known.contains(&key.get_ref().as_ref())) {
                table.insert(key, value);
            }
        }
    }

    /// As `advice`, which is asked once for the same.
    fn given(&self, kind: &str, written: &str) -> String {
        let mut given = self.given.borrow_mut();
        let key = (kind.to_owned(), written.to_owned());
        if let Some(advice) = given.get(&key) {
            return advice.clone();
        }
        if given.len() >= ADVICE_MAX {
            return "see docs/configuration.md for the keys of this table".into();
        }
        let advice = self.advice(kind, written);
        given.insert(key, advice.clone());
        advice
    }

    /// The same for a health check and what is in it.
    fn sift_check(&self, table: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
        self.sift("[virtual_server.health_check]", table, problems);
        below(table, "url", |t| self.sift("[[virtual_server.health_check.url]]", t, problems));
    }

    /// What to write instead of an unknown key.
    fn advice(&self, kind: &str, written: &str) -> String {
        let known = self.keys(kind);
        if kind == "[connections]" && OTHER_SWITCHES.contains(&written) {
            return "weir does not have this switch of the kernel's IPVS: remove the line".into();
        }
        if kind == "[[virtual_server]]" && matches!(written, "pe_name" | "pe") {
            return "write `persistence_engine`".into();
        }
        if let Some(advice) = keepalived::advice(kind, written) {
            return advice.into();
        }
        if let Some(meant) = nearest(written, known.iter().copied()) {
            return format!("did you mean `{meant}`?");
        }
        let homes: Vec<&str> =
            KINDS.iter().filter(|(_, keys)| keys.contains(&written)).map(|(name, _)| *name).collect();
        match homes.as_slice() {
            [] if known.len() > 14 => "see docs/configuration.md for the keys of this table".into(),
            [] => format!("known keys: {}", known.join(", ")),
            // A key that is at home everywhere says nothing about what was meant.
            [_, _, _, ..] => format!("known keys: {}", known.join(", ")),
            homes => format!("`{written}` belongs in {}", homes.join(" or ")),
        }
    }
}

/// Switches of `net.ipv4.vs.*` that weir does not have: they steer what only the kernel does.
const OTHER_SWITCHES: [&str; 22] = [
    "am_droprate",
    "amemthresh",
    "backup_only",
    "cache_bypass",
    "conn_lfactor",
    "conntrack",
    "drop_entry",
    "drop_packet",
    "est_cpulist",
    "est_nice",
    "ignore_tunneled",
    "run_estimation",
    "snat_reroute",
    "svc_lfactor",
    "sync_persist_mode",
    "sync_ports",
    "sync_qlen_max",
    "sync_refresh_period",
    "sync_retries",
    "sync_sock_size",
    "sync_threshold",
    "sync_version",
];

/// The field names of a struct that derives `Deserialize`.
fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The answer comes through `fields`; the error is how `Fields` stops.
    let _ = T::deserialize(Fields(&mut fields));
    fields
}

/// A deserializer that holds nothing: it notes which fields it is asked for and stops.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("the fields are known"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_table_knows_its_keys() {
        for (kind, keys) in KINDS.iter() {
            assert!(!keys.is_empty(), "{kind}");
        }
        assert_eq!(fields_of::<VrrpAuthentication>(), ["type", "password", "sequence_file"]);
    }

    #[test]
    fn unknown_keys_are_taken_out_and_known_ones_stay() {
        let mut file = DeTable::parse("a = 1\n[http]\nlisten = 1\nlissten = 2\n").unwrap().into_inner();
        let mut problems = Vec::new();
        remove_unknown(&mut file, &mut problems);
        assert_eq!(problems.len(), 2);
        assert!(file.get("http").unwrap().get_ref().as_table().unwrap().contains_key("listen"));
        assert!(!file.get("http").unwrap().get_ref().as_table().unwrap().contains_key("lissten"));
        assert!(!file.contains_key("a"));
    }
}
