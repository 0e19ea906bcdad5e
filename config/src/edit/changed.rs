//! A virtual server that edits change, and what is to be looked up among all of them meanwhile. An edit of one real server costs the same
//! whether it has ten or ten thousand: a list of edits takes time in proportion.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Editor, ServerKey};
use crate::model::{Identity, RealServer, VirtualServer};
use crate::source::{Keys, Origin, Written};

/// See the module.
pub(super) struct Changed {
    /// Without its real servers.
    head: VirtualServer,
    /// Its own keys, as JSON.
    written: Box<str>,
    pub(super) origin: Origin,
    /// Those that were removed leave their places empty until the end.
    real_servers: Vec<Option<Real>>,
    count: usize,
    /// Where each is. Made when it is asked for the second time: most lists have one edit.
    places: Option<HashMap<ServerKey, usize>>,
    was_searched: bool,
}

/// A real server, and its keys as JSON.
struct Real {
    server: RealServer,
    written: Arc<str>,
}

impl Changed {
    pub(super) fn of(mut server: VirtualServer, written: Written) -> Self {
        let Written { head, real_servers: texts, origin } = written;
        let servers = std::mem::take(&mut server.real_servers);
        let count = servers.len();
        let real = |(server, written)| Some(Real { server, written });
        Self {
            head: server,
            written: head,
            origin,
            real_servers: servers.into_iter().zip(texts).map(real).collect(),
            count,
            places: None,
            was_searched: false,
        }
    }

    /// Without its real servers.
    pub(super) fn head(&self) -> &VirtualServer {
        &self.head
    }

    /// How many real servers it has.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Its own keys.
    pub(super) fn keys(&self) -> Keys {
        crate::source::parsed(&self.written)
    }

    /// All keys of the table.
    pub(super) fn whole(&self) -> Keys {
        self.written().whole()
    }

    /// Keys of the table with these of its real servers, and with that one of the others that says most: beside it they are as beside all of
    /// them, as far as anybody is warned of.
    pub(super) fn with(&self, some: &HashSet<ServerKey>) -> Keys {
        let (some, others): (Vec<&Real>, Vec<&Real>) =
            self.present().partition(|real| some.contains(&real.key()));
        let says = |real: &&Real| (real.server.has_dynamic_weight(), real.server.weight);
        let other = others.into_iter().max_by_key(says);
        let list = some.into_iter().chain(other).map(|real| crate::source::parsed(&real.written).into());
        let list: Vec<serde_json::Value> = list.collect();
        let mut keys = self.keys();
        if !list.is_empty() {
            keys.insert("real_server".to_owned(), list.into());
        }
        keys
    }

    /// As it is now.
    pub(super) fn server(&self) -> VirtualServer {
        let real_servers = self.present().map(|real| real.server.clone()).collect();
        VirtualServer { real_servers, ..self.head.clone() }
    }

    fn written(&self) -> Written {
        let real_servers = self.present().map(|real| real.written.clone()).collect();
        Written { head: self.written.clone(), real_servers, origin: self.origin }
    }

    pub(super) fn into_parts(self) -> (VirtualServer, Written) {
        let present = self.real_servers.into_iter().flatten();
        let (real_servers, texts) = present.map(|real| (real.server, real.written)).unzip();
        let written = Written { head: self.written, real_servers: texts, origin: self.origin };
        (VirtualServer { real_servers, ..self.head }, written)
    }

    /// The place of a real server.
    pub(super) fn find(&mut self, key: ServerKey) -> Option<usize> {
        if let Some(places) = &self.places {
            return places.get(&key).copied();
        }
        let mut keys = self.real_servers.iter().enumerate();
        if !std::mem::replace(&mut self.was_searched, true) {
            return keys
                .find(|(_, real)| real.as_ref().is_some_and(|it| it.key() == key))
                .map(|(place, _)| place);
        }
        let places: HashMap<_, _> =
            keys.filter_map(|(place, real)| Some((real.as_ref()?.key(), place))).collect();
        self.places.insert(places).get(&key).copied()
    }

    /// Keys of the real server at this place.
    pub(super) fn real_server(&self, place: usize) -> Keys {
        let real = self.real_servers.get(place).and_then(Option::as_ref);
        real.map_or_else(Keys::new, |real| crate::source::parsed(&real.written))
    }

    /// A real server that is new.
    pub(super) fn add(&mut self, server: RealServer, keys: Keys) {
        let real = Real::of(server, keys);
        if let Some(places) = &mut self.places {
            places.insert(real.key(), self.real_servers.len());
        }
        self.real_servers.push(Some(real));
        self.count += 1;
    }

    /// Another in the place of one with the same key.
    pub(super) fn set(&mut self, place: usize, server: RealServer, keys: Keys) {
        self.real_servers[place] = Some(Real::of(server, keys));
    }

    pub(super) fn remove(&mut self, place: usize) {
        if let (Some(gone), Some(places)) = (self.real_servers[place].take(), &mut self.places) {
            places.remove(&gone.key());
        }
        self.count -= 1;
    }

    fn present(&self) -> impl Iterator<Item = &Real> {
        self.real_servers.iter().flatten()
    }

    /// Addresses of its real servers, and of its sorry server.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let sorry = self.head.health.sorry_server.iter();
        self.present().map(|real| &real.server).chain(sorry).map(|real| real.address)
    }
}

impl Real {
    fn of(server: RealServer, keys: Keys) -> Self {
        Self { server, written: serde_json::Value::Object(keys).to_string().into() }
    }

    fn key(&self) -> ServerKey {
        (self.server.address, self.server.port)
    }
}

/// By how much names and addresses differ from those of the configuration that is edited.
#[derive(Default)]
pub(super) struct Differences {
    /// Who has them now.
    names: HashMap<String, Option<Identity>>,
    vips: HashMap<IpAddr, i64>,
    real_servers: HashMap<IpAddr, i64>,
}

impl Differences {
    /// A virtual server has come (1) or gone (-1).
    pub(super) fn count(&mut self, server: &Changed, by: i64) {
        let holder = (by > 0).then(|| server.head.identity());
        self.names.insert(server.head.name.clone(), holder);
        if server.head.mark.is_none() {
            *self.vips.entry(server.head.address).or_default() += by;
        }
        server.addresses().for_each(|address| self.count_real(address, by));
    }

    /// The same of one that nobody has looked into.
    pub(super) fn has_gone(&mut self, server: &VirtualServer) {
        self.names.insert(server.name.clone(), None);
        if server.mark.is_none() {
            *self.vips.entry(server.address).or_default() -= 1;
        }
        let sorry = server.health.sorry_server.iter();
        server.real_servers.iter().chain(sorry).for_each(|real| self.count_real(real.address, -1));
    }

    /// The same of a real server.
    pub(super) fn count_real(&mut self, address: IpAddr, by: i64) {
        *self.real_servers.entry(address).or_default() += by;
    }

    /// Who has this name now.
    pub(super) fn named(&self, editor: &Editor, name: &str) -> Option<Identity> {
        self.names.get(name).copied().unwrap_or_else(|| editor.names.get(name).copied())
    }

    /// Whether a virtual server has this address now.
    pub(super) fn is_vip(&self, editor: &Editor, address: IpAddr) -> bool {
        sum(&editor.vips, &self.vips, address) > 0
    }

    /// Whether a real server has this address now.
    pub(super) fn is_real_server(&self, editor: &Editor, address: IpAddr) -> bool {
        sum(&editor.real_servers, &self.real_servers, address) > 0
    }
}

fn sum(known: &HashMap<IpAddr, u32>, more: &HashMap<IpAddr, i64>, address: IpAddr) -> i64 {
    let known = known.get(&address).copied().map_or(0, i64::from);
    known + more.get(&address).copied().unwrap_or(0)
}
