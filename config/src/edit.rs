//! Edits of a configuration while weir runs.
//!
//! An edit goes the way of the file: the table that it makes is written as text, and that is parsed, looked through for unknown keys
//! and checked as in the file, together with all other tables but the virtual servers. So a wrong edit gets the sentence that the file
//! would get. Of other virtual servers only that is looked at which an edit can clash with: identities, names, addresses. What an edit
//! costs is in proportion to the virtual server, or to the one real server, that it is about, and to the tables besides.

mod base;
mod changed;
mod staged;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::model::{Config, Family, Identity, RealServer, Timeouts, VirtualServer};
use crate::report::{Need, Problem};
pub use crate::source::Keys;
use crate::source::{Source, Written};
use base::Base;
pub use staged::{Staged, Step};

/// What tells a real server within its virtual server.
pub type ServerKey = (IpAddr, u16);

/// Names a virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// By its name.
    Name(String),
    /// By what it serves.
    Identity(Identity),
}

/// One change. In keys, null takes one away.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// A new virtual server, by keys of `[[virtual_server]]`.
    AddVirtualServer(Keys),
    /// Other values of some keys of a virtual server.
    SetVirtualServer(Id, Keys),
    /// A virtual server goes.
    RemoveVirtualServer(Id),
    /// A new real server, by keys of `[[virtual_server.real_server]]`.
    AddRealServer(Id, Keys),
    /// Other values of some keys of a real server.
    SetRealServer(Id, ServerKey, Keys),
    /// A real server goes.
    RemoveRealServer(Id, ServerKey),
    /// Every virtual server goes.
    Clear,
    /// Counters begin at 0 again, of one or of all.
    Zero(Option<Id>),
    /// By keys of `[connections.timeouts]`.
    SetTimeouts(Keys),
}

impl Edit {
    /// How much there is to read, about as many octets as it has as JSON.
    pub fn size(&self) -> usize {
        match self {
            Self::AddVirtualServer(keys)
            | Self::SetVirtualServer(_, keys)
            | Self::AddRealServer(_, keys)
            | Self::SetRealServer(_, _, keys)
            | Self::SetTimeouts(keys) => size_of_keys(keys),
            Self::RemoveVirtualServer(_) | Self::RemoveRealServer(..) | Self::Clear | Self::Zero(_) => 0,
        }
    }
}

fn size_of_keys(keys: &Keys) -> usize {
    keys.iter().map(|(key, value)| key.len() + size_of_value(value)).sum()
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Object(keys) => size_of_keys(keys),
        Value::Array(values) => values.iter().map(|value| 1 + size_of_value(value)).sum(),
        Value::String(text) => 1 + text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The place of the edit in the list.
    pub edit: usize,
    /// In one word.
    pub kind: Kind,
    /// In a sentence.
    pub text: String,
}

/// See [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is such a virtual or real server already.
    Exists,
    /// There is no such virtual server.
    UnknownVirtualServer,
    /// The virtual server has no such real server.
    UnknownRealServer,
    /// The file would be refused.
    Invalid,
}

/// A refusal, of an edit that its caller knows.
type Refused = (Kind, String);

/// What edits are made against, beside the [`Config`] that they change: its tables as they are written.
#[derive(Debug, Clone)]
pub struct Editor {
    base: Arc<Base>,
    /// In the order of [`Config::virtual_servers`].
    written: Vec<Arc<Written>>,
    /// Their places.
    places: HashMap<Identity, usize>,
    /// Who has which name.
    names: HashMap<String, Identity>,
    /// Virtual servers of each address.
    vips: HashMap<IpAddr, u32>,
    /// Real servers of each address.
    real_servers: HashMap<IpAddr, u32>,
    /// Keys of `[connections.timeouts]` that were edited.
    timeouts: Keys,
}

impl Editor {
    /// Of a file without errors.
    pub fn new(source: Source, config: &Config) -> Self {
        let Source { tables, written } = source;
        let mut editor = Self {
            base: Arc::new(Base::of(tables)),
            written: written.into_iter().map(Arc::new).collect(),
            places: HashMap::new(),
            names: HashMap::new(),
            vips: HashMap::new(),
            real_servers: HashMap::new(),
            timeouts: Keys::new(),
        };
        for (place, server) in config.virtual_servers.iter().enumerate() {
            editor.places.insert(server.identity(), place);
            editor.count(server, 1);
        }
        editor
    }

    /// What would come of these edits, all of them or none.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn stage(&self, config: &Config, edits: &[Edit]) -> Result<Staged, Refusal> {
        let mut work = staged::Work::new(self, config);
        for (place, edit) in edits.iter().enumerate() {
            work.edit(edit).map_err(|(kind, text)| Refusal { edit: place, kind, text })?;
        }
        Ok(work.end())
    }

    /// Puts what was staged into a configuration. It has to be the one that it was staged for.
    pub fn commit(&mut self, config: &mut Config, staged: Staged) {
        let Staged { outcome, timeouts, .. } = staged;
        self.remove(config, outcome.iter().filter(|(_, now)| now.is_none()).map(|(identity, _)| *identity));
        for (identity, now) in outcome {
            let place = self.places.get(&identity).copied();
            match (place, now) {
                (Some(place), Some((server, written))) => {
                    let former = std::mem::replace(&mut config.virtual_servers[place], server);
                    self.recount(&former, &config.virtual_servers[place]);
                    self.written[place] = Arc::new(written);
                }
                (None, Some((server, written))) => {
                    self.count(&server, 1);
                    self.places.insert(identity, config.virtual_servers.len());
                    config.virtual_servers.push(server);
                    self.written.push(Arc::new(written));
                }
                (_, None) => {}
            }
        }
        if let Some((timeouts, keys)) = timeouts {
            config.connections.timeouts = timeouts;
            self.timeouts.extend(keys);
        }
    }

    /// Takes virtual servers out. Many cost little more than one.
    fn remove(&mut self, config: &mut Config, gone: impl Iterator<Item = Identity>) {
        let mut gone: Vec<usize> = gone.filter_map(|identity| self.places.remove(&identity)).collect();
        gone.sort_unstable();
        let Some(first) = gone.first().copied() else { return };
        for place in &gone {
            self.count(&config.virtual_servers[*place], -1);
        }
        retain_but(&mut config.virtual_servers, &gone);
        retain_but(&mut self.written, &gone);
        for (place, server) in config.virtual_servers.iter().enumerate().skip(first) {
            self.places.insert(server.identity(), place);
        }
    }

    /// What can be shown of it, for whoever shows it elsewhere.
    pub fn shown(&self) -> Shown {
        Shown { base: self.base.clone(), written: self.written.clone(), timeouts: self.timeouts.clone() }
    }

    /// A virtual server is another than it was. Most have most of their real servers in common, so only what lies between is counted.
    fn recount(&mut self, former: &VirtualServer, now: &VirtualServer) {
        let (was, is) = (&former.real_servers[..], &now.real_servers[..]);
        let first = was.iter().zip(is).take_while(|(was, is)| was.address == is.address).count();
        let (was, is) = (&was[first..], &is[first..]);
        let last = was.iter().rev().zip(is.iter().rev()).take_while(|(was, is)| was.address == is.address);
        let last = last.count();
        self.count_with(former, &was[..was.len() - last], -1);
        self.count_with(now, &is[..is.len() - last], 1);
    }

    fn count(&mut self, server: &VirtualServer, by: i32) {
        self.count_with(server, &server.real_servers, by);
    }

    /// With these of its real servers.
    fn count_with(&mut self, server: &VirtualServer, real_servers: &[RealServer], by: i32) {
        let add = |counts: &mut HashMap<IpAddr, u32>, address: IpAddr| {
            let count = counts.entry(address).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                counts.remove(&address);
            }
        };
        match by {
            1 => _ = self.names.insert(server.name.clone(), server.identity()),
            _ if self.names.get(&server.name) == Some(&server.identity()) => {
                _ = self.names.remove(&server.name)
            }
            _ => {}
        }
        if server.mark.is_none() {
            add(&mut self.vips, server.address);
        }
        let sorry = server.health.sorry_server.iter();
        for real in real_servers.iter().chain(sorry) {
            add(&mut self.real_servers, real.address);
        }
    }
}

/// Takes out what stands at these places, which rise.
fn retain_but<T>(list: &mut Vec<T>, gone: &[usize]) {
    let (mut gone, mut place) = (gone.iter().peekable(), 0..);
    list.retain(|_| place.next().is_none_or(|place| gone.next_if_eq(&&place).is_none()));
}

/// The tables of a configuration at one moment.
#[derive(Debug)]
pub struct Shown {
    base: Arc<Base>,
    written: Vec<Arc<Written>>,
    timeouts: Keys,
}

impl Shown {
    /// The tables of the file as they are in force, keys that may hold secrets left out. A virtual server has the key `origin`
    /// besides, and `left_out` where something of it was left out.
    pub fn tables(&self) -> Keys {
        let mut tables = self.base.tables.clone();
        if !self.timeouts.is_empty() {
            let connections = tables.entry("connections").or_insert_with(|| Value::Object(Keys::new()));
            if let Value::Object(connections) = connections
                && let Value::Object(timeouts) =
                    connections.entry("timeouts").or_insert_with(|| Value::Object(Keys::new()))
            {
                timeouts.extend(self.timeouts.clone());
            }
        }
        crate::secret::leave_out(&mut tables);
        let servers = self.written.iter().map(|written| written.shown()).collect();
        tables.insert("virtual_server".to_owned(), Value::Array(servers));
        tables
    }
}

/// Holds what edits need of this host against `has`, as [`crate::Loaded::examine`] does for a file.
///
/// # Errors
/// The sentence for the first that is missing.
pub fn examine(needs: Vec<Problem>, has: impl Fn(&Need) -> Result<(), String>) -> Result<(), String> {
    for mut problem in needs {
        let Some(need) = problem.need.take() else { continue };
        if let Err(why) = has(&need) {
            return Err(match problem.help {
                Some(help) => format!("{}: {why} (help: {help})", problem.message),
                None => format!("{}: {why}", problem.message),
            });
        }
    }
    Ok(())
}

/// A virtual server as people name it who gave it no name: `tcp-192.0.2.1:80`, `mark-1`.
fn name_of(identity: &Identity) -> String {
    match identity {
        Identity::Address { address, port, protocol } => format!("{}-{address}:{port}", protocol.name()),
        Identity::Mark { mark, family: Family::V4 } => format!("mark-{mark}"),
        Identity::Mark { mark, family: Family::V6 } => format!("mark-{mark}-ipv6"),
    }
}

/// The values of keys, as they are after an edit.
fn merge(keys: &mut Keys, edit: &Keys) {
    for (key, value) in edit {
        match value {
            Value::Null => _ = keys.remove(key),
            value => _ = keys.insert(key.clone(), value.clone()),
        }
    }
}

/// Changes since a file was read, as few edits as bring them about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Since {
    /// Everything was removed before these.
    is_cleared: bool,
    timeouts: Keys,
    servers: HashMap<Identity, ServiceSince>,
    next: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ServiceSince {
    at: u64,
    is_removed: bool,
    change: Option<Made>,
    servers: BTreeMap<ServerKey, (u64, ServerSince)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ServerSince {
    is_removed: bool,
    change: Option<Made>,
}

#[derive(Debug, Clone, PartialEq)]
enum Made {
    Added(Keys),
    Set(Keys),
}

impl Made {
    fn set(change: &mut Option<Self>, keys: &Keys) {
        match change {
            // A null has to take away again what the file has.
            Some(Self::Set(known)) => known.extend(keys.clone()),
            Some(Self::Added(known)) => merge(known, keys),
            None => *change = Some(Self::Set(keys.clone())),
        }
    }
}

impl Since {
    /// Takes down what an edit did to this virtual server and real server.
    pub(crate) fn note(&mut self, edit: &Edit, service: Option<Identity>, server: Option<ServerKey>) {
        self.next += 1;
        let at = self.next;
        match edit {
            Edit::Clear => {
                self.servers.clear();
                self.is_cleared = true;
                return;
            }
            Edit::SetTimeouts(keys) => return self.timeouts.extend(keys.clone()),
            _ => {}
        }
        let Some(service) = service else { return };
        let known = self.servers.entry(service).or_insert_with(|| ServiceSince { at, ..Default::default() });
        let Some(server) = server else {
            match edit {
                Edit::AddVirtualServer(keys) => {
                    known.at = at;
                    known.change = Some(Made::Added(keys.clone()));
                }
                Edit::SetVirtualServer(_, keys) => {
                    if keys.contains_key("real_server") {
                        // All of them are as told here.
                        known.servers.clear();
                    }
                    Made::set(&mut known.change, keys);
                }
                Edit::RemoveVirtualServer(_) => {
                    let was_added = matches!(known.change, Some(Made::Added(_)));
                    known.is_removed |= !was_added;
                    known.change = None;
                    known.servers.clear();
                    if !known.is_removed {
                        self.servers.remove(&service);
                    }
                }
                _ => {}
            }
            return;
        };
        let (place, known) = known.servers.entry(server).or_insert_with(|| (at, ServerSince::default()));
        match edit {
            Edit::AddRealServer(_, keys) => {
                *place = at;
                known.change = Some(Made::Added(keys.clone()));
            }
            Edit::SetRealServer(_, _, keys) => Made::set(&mut known.change, keys),
            Edit::RemoveRealServer(..) => {
                known.is_removed |= !matches!(known.change, Some(Made::Added(_)));
                known.change = None;
            }
            _ => {}
        }
    }

    /// How many things were edited.
    pub fn count(&self) -> usize {
        let of_service = |since: &ServiceSince| {
            let server = |(_, its): &(u64, ServerSince)| {
                usize::from(its.is_removed) + usize::from(its.change.is_some())
            };
            let its = usize::from(since.is_removed) + usize::from(since.change.is_some());
            its + since.servers.values().map(server).sum::<usize>()
        };
        let others = usize::from(self.is_cleared) + usize::from(!self.timeouts.is_empty());
        others + self.servers.values().map(of_service).sum::<usize>()
    }

    /// The edits that bring the same about, in an order in which they can be made.
    pub fn edits(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        if self.is_cleared {
            edits.push(Edit::Clear);
        }
        if !self.timeouts.is_empty() {
            edits.push(Edit::SetTimeouts(self.timeouts.clone()));
        }
        let mut services: Vec<_> = self.servers.iter().collect();
        services.sort_by_key(|(_, since)| since.at);
        for (identity, since) in services {
            let id = || Id::Identity(*identity);
            if since.is_removed {
                edits.push(Edit::RemoveVirtualServer(id()));
            }
            edits.extend(since.change.as_ref().map(|made| match made {
                Made::Added(keys) => Edit::AddVirtualServer(keys.clone()),
                Made::Set(keys) => Edit::SetVirtualServer(id(), keys.clone()),
            }));
            let mut servers: Vec<_> = since.servers.iter().collect();
            servers.sort_by_key(|(_, (at, _))| *at);
            for (server, (_, since)) in servers {
                if since.is_removed {
                    edits.push(Edit::RemoveRealServer(id(), *server));
                }
                edits.extend(since.change.as_ref().map(|made| match made {
                    Made::Added(keys) => Edit::AddRealServer(id(), keys.clone()),
                    Made::Set(keys) => Edit::SetRealServer(id(), *server, keys.clone()),
                }));
            }
        }
        edits
    }
}

/// The values that the edited keys of `[connections.timeouts]` give.
pub(crate) type TimeoutsEdit = (Timeouts, Keys);
