//! What the numbers in records mean, by content, for the next process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::{Line, Slab};
use hashbrown::HashMap;
use weir_config::model::{Engine, Family, Forwarding, Identity, Persistence, Protocol};

use super::header::{self, Clock, Distribution, Header, Machine, Refusal};
use super::{load_sealed, store_sealed};
use crate::conn::record::{ServerId, ServiceId, VipId};
use crate::snapshot::Snapshot;
use crate::snapshot::registry::{Named, Ties};
use crate::snapshot::service::Service;
use crate::snapshot::vips::OWN;

const VIPS: usize = OWN as usize;
const SERVERS: usize = ServerId::MAX as usize + 1;
const SERVICES: usize = ServiceId::NONE.0 as usize;
const FIRST_SERVER: usize = header::LINES + VIPS;
const FIRST_SERVICE: usize = FIRST_SERVER + SERVERS;
/// Where the highest numbers stand that were ever given, of a real server and of a virtual server with persistence, in the header's
/// line of states.
const END: (usize, usize) = (2, 1);
const SERVICES_END: (usize, usize) = (2, 2);
/// The same of addresses; 0: it was not written. They could be as many as there are numbers, and few are.
const VIPS_END: (usize, usize) = (2, 3);
/// Lines of the whole book. Pages of it that no number needs take no memory.
pub const BOOK_LINES: usize = FIRST_SERVICE + SERVICES;

/// See the module. The header stands in front.
pub struct Book {
    lines: Slab<Line>,
    /// Numbers of real servers are written as of this generation.
    generation: u64,
    /// And epochs of persistence as of this one.
    epochs_since: u64,
    /// Numbers of addresses from here on were never written.
    vips_end: usize,
}

/// What a book says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Addresses that clients talk to.
    pub vips: HashMap<VipId, IpAddr>,
    /// Real servers.
    pub servers: HashMap<ServerId, Named>,
    /// Virtual servers with persistence.
    pub ties: HashMap<ServiceId, Ties>,
}

impl Numbers {
    /// All numbers of real servers are below this.
    pub(super) fn servers_end(&self) -> usize {
        self.servers.keys().map(|id| id.index() + 1).max().unwrap_or(0)
    }
}

impl Book {
    /// A new one in `lines`, zeroed, [`BOOK_LINES`] many, of tables that begin with `front`.
    pub fn begin(lines: Slab<Line>, front: &Line, header: &Header, clock: &Clock) -> Self {
        header.write(&lines);
        clock.write(&lines);
        header.mark(front);
        Self { lines, generation: 0, epochs_since: 0, vips_end: 0 }
    }

    /// What the next process needs is there.
    pub fn complete(&self) {
        Header::complete(&self.lines);
    }

    /// That of a process before.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn read(lines: Slab<Line>, machine: &Machine) -> Result<(Self, Header, Clock), Refusal> {
        let header = Header::read(&lines, machine)?;
        let clock = Clock::read(&lines)?;
        let next = clock.go_on(machine)?;
        let book = Self { lines, generation: 0, epochs_since: 0, vips_end: VIPS };
        let vips_end = match book.end(VIPS_END, VIPS) {
            0 => VIPS,
            end => end,
        };
        Ok((Self { vips_end, ..book }, header, next))
    }

    /// This process counts time as told from now on.
    pub fn go_on(&self, clock: &Clock) {
        if Clock::read(&self.lines) != Ok(*clock) {
            clock.write(&self.lines);
        }
    }

    /// How devices gave flows to the workers of the process before.
    pub fn distribution(&self) -> Option<Distribution> {
        Distribution::read(&self.lines)
    }

    /// They do so as told from now on.
    pub fn spread_by(&self, distribution: Distribution) {
        if self.distribution() != Some(distribution) {
            distribution.write(&self.lines);
        }
    }

    /// Checks that the tables of this book begin with `front` and have so many octets.
    ///
    /// # Errors
    /// They are others, or cut.
    pub fn check(&self, header: &Header, front: &Line, octets: u64) -> Result<(), Refusal> {
        header.check(front, octets)
    }

    /// What it says. An entry that is not whole says nothing: no record can name it.
    pub fn numbers(&self) -> Numbers {
        let vips = self.lines[header::LINES..][..self.vips_end].iter().enumerate();
        let vips = vips.filter(|(_, line)| line.0[0].load(Relaxed) != 0).filter_map(|(number, line)| {
            let words = load_sealed(line).filter(|words| words[0] == number as u64 + 1)?;
            Some((VipId(number as u16), address([words[1], words[2]], words[3])?))
        });
        let servers = self.lines[FIRST_SERVER..][..self.end(END, SERVERS)].iter().enumerate();
        let servers = servers.filter_map(|(number, line)| {
            let words = load_sealed(line).filter(|words| words[0] as u32 == number as u32)?;
            Some((ServerId(number as u32), named(words)?))
        });
        let ties = self.lines[FIRST_SERVICE..][..self.end(SERVICES_END, SERVICES)].iter().enumerate();
        let ties = ties.filter_map(|(number, line)| {
            let words = load_sealed(line).filter(|words| words[0] as u32 == number as u32 + 1)?;
            Some((ServiceId(number as u16), ties_of(words)?))
        });
        Numbers { vips: vips.collect(), servers: servers.collect(), ties: ties.collect() }
    }

    /// Writes down what the numbers of a snapshot mean that will be put in force.
    pub fn note(&mut self, snapshot: &Snapshot) {
        let end = snapshot.vips.own().map(|(number, _)| usize::from(number.0) + 1).max().unwrap_or(0);
        self.vips_end = self.vips_end.max(end);
        self.note_end(VIPS_END, self.vips_end as u64);
        for (number, vip) in snapshot.vips.own() {
            let (words, family) = words(snapshot.ip(vip));
            let wanted = [u64::from(number.0) + 1, words[0], words[1], family, 0, 0, 0];
            self.write(header::LINES + usize::from(number.0), wanted);
        }
        let now = (snapshot.numbers_generation, snapshot.epochs_since);
        if (self.generation, self.epochs_since) == now {
            return;
        }
        (self.generation, self.epochs_since) = now;
        self.forget_free(snapshot);
        self.note_ties(snapshot);
        let end = snapshot.numbered().map(|server| u64::from(server.id.0) + 1).max().unwrap_or(0);
        self.note_end(END, end);
        for server in snapshot.numbered() {
            // What is left of a virtual server that is gone stands there already.
            let Some(service) = snapshot.service(server.service) else { continue };
            let named = Named {
                service: identity_of(service),
                service_id: server.service,
                server: (server.ip(), server.named_port),
                forwarding: server.forwarding,
                port: server.port,
            };
            self.write(FIRST_SERVER + server.id.index(), words_of(server.id, &named));
        }
    }

    /// Numbers that no record names are free, and mean nothing.
    fn forget_free(&self, snapshot: &Snapshot) {
        let end = self.end(END, SERVERS);
        let mut is_used = vec![false; end];
        for server in snapshot.numbered() {
            if let Some(place) = is_used.get_mut(server.id.index()) {
                *place = true;
            }
        }
        let servers =
            is_used.into_iter().enumerate().map(|(number, is_used)| (FIRST_SERVER + number, is_used));
        // Where an address has left, some record may still name its number.
        let vips = 0..if snapshot.vips.have_left() { 0 } else { self.vips_end };
        let is_vip = |number: usize| snapshot.vips.address(VipId(number as u16)).is_some();
        let vips = vips.map(|number| (header::LINES + number, is_vip(number)));
        for line in servers.chain(vips).filter(|(_, is_used)| !is_used).map(|(line, _)| &self.lines[line]) {
            if line.0[7].load(Relaxed) != 0 {
                line.0[7].store(0, Relaxed);
                line.0.iter().for_each(|word| word.store(0, Release));
            }
        }
    }

    fn end(&self, (line, word): (usize, usize), most: usize) -> usize {
        self.lines[line].0[word].load(Relaxed).min(most as u64) as usize
    }

    /// A line that is not whole, as when this was interrupted, costs the templates of a virtual server, which it has given up.
    fn note_ties(&self, snapshot: &Snapshot) {
        let is_written = |service: &&Arc<Service>| {
            service.persistence.is_some() || self.lines[line_of(service.id)].0[7].load(Relaxed) != 0
        };
        let end = |service: &Arc<Service>| u64::from(service.id.0) + 1;
        self.note_end(SERVICES_END, snapshot.services().filter(is_written).map(end).max().unwrap_or(0));
        for service in snapshot.services().filter(is_written) {
            let persistence = service.persistence.map_or(0, tied_by_word);
            let (words, facts, mark) = identity_words(identity_of(service));
            let number = u64::from(service.id.0) + 1;
            let number = number | u64::from(service.epoch.number) << 32 | persistence << 48;
            self.write(line_of(service.id), [number, facts, mark, words[0], words[1], 0, 0]);
        }
    }

    fn note_end(&self, (line, word): (usize, usize), end: u64) {
        let known = &self.lines[line].0[word];
        known.store(known.load(Relaxed).max(end), Release);
    }

    fn write(&self, line: usize, words: [u64; 7]) {
        let line = &self.lines[line];
        if load_sealed(line) != Some(words) {
            store_sealed(line, words);
        }
    }
}

/// ```text
///  0 | service 16 | number 32 |
///  1 | bound port 16 | named port 16 | service's port 16 | .. | forwarding 2 | protocol 2 | is mark 1 | service's family 1 | server's family 1 |
///  2 | mark 32 |
///  3, 4 | address of the service |  5, 6 | address of the server |
/// ```
fn words_of(id: ServerId, named: &Named) -> [u64; 7] {
    let (server, server_family) = words(named.server.0);
    let (service, mut facts, mark) = identity_words(named.service);
    let forwarding = match named.forwarding {
        Forwarding::Dr => 0,
        Forwarding::Tun => 1,
        Forwarding::Nat => 2,
    };
    facts |= server_family | forwarding << 5 | u64::from(named.server.1) << 32 | u64::from(named.port) << 48;
    let number = u64::from(id.0) | u64::from(named.service_id.0) << 32;
    [number, facts, mark, service[0], service[1], server[0], server[1]]
}

fn named([number, facts, mark, service0, service1, server0, server1]: [u64; 7]) -> Option<Named> {
    Some(Named {
        service: identity(facts, mark, [service0, service1])?,
        service_id: ServiceId((number >> 32) as u16),
        server: (address([server0, server1], facts & 1)?, (facts >> 32) as u16),
        forwarding: match facts >> 5 & 3 {
            0 => Forwarding::Dr,
            1 => Forwarding::Tun,
            2 => Forwarding::Nat,
            _ => return None,
        },
        port: (facts >> 48) as u16,
    })
}

/// The engine of a persistence, in [`tied_by_word`].
const ENGINE_SIP: u64 = 1 << 8;

/// What the templates of a virtual server are by: the length of the prefix and one, and the engine.
fn tied_by_word(persistence: Persistence) -> u64 {
    let engine = match persistence.engine {
        None => 0,
        Some(Engine::Sip) => ENGINE_SIP,
    };
    engine | (u64::from(persistence.netmask) + 1)
}

/// Of the line of a virtual server: `| engine 8 | netmask + 1, 8 | epoch 16 | number + 1, 32 |`, then three as of a real server's.
fn ties_of([number, facts, mark, service0, service1, ..]: [u64; 7]) -> Option<Ties> {
    Some(Ties {
        service: identity(facts, mark, [service0, service1])?,
        epoch: (number >> 32) as u16,
        by: match number >> 48 {
            word if word & ENGINE_SIP != 0 => (netmask_in(word ^ ENGINE_SIP)?, Some(Engine::Sip)),
            word => (netmask_in(word)?, None),
        },
    })
}

fn netmask_in(word: u64) -> Option<u8> {
    u8::try_from(word).ok()?.checked_sub(1)
}

fn line_of(service: ServiceId) -> usize {
    FIRST_SERVICE + usize::from(service.0)
}

fn identity_of(service: &Service) -> Identity {
    match service.mark {
        Some(mark) => Identity::Mark { mark: mark.get(), family: Family::of(service.address) },
        None => {
            let Service { address, port, protocol, .. } = *service;
            Identity::Address { address, port, protocol }
        }
    }
}

/// Its address, its part of the facts, its mark.
fn identity_words(service: Identity) -> ([u64; 2], u64, u64) {
    match service {
        Identity::Address { address, port, protocol } => {
            let (words, family) = words(address);
            (words, family << 1 | (protocol as u64) << 3 | u64::from(port) << 16, 0)
        }
        Identity::Mark { mark, family } => {
            ([0; 2], u64::from(family == Family::V6) << 1 | 1 << 2, u64::from(mark))
        }
    }
}

fn identity(facts: u64, mark: u64, words: [u64; 2]) -> Option<Identity> {
    Some(match facts >> 2 & 1 {
        0 => Identity::Address {
            address: address(words, facts >> 1 & 1)?,
            port: (facts >> 16) as u16,
            protocol: match facts >> 3 & 3 {
                0 => Protocol::Tcp,
                1 => Protocol::Udp,
                2 => Protocol::Sctp,
                _ => return None,
            },
        },
        _ => Identity::Mark {
            mark: u32::try_from(mark).ok()?,
            family: if facts >> 1 & 1 == 0 { Family::V4 } else { Family::V6 },
        },
    })
}

/// An address and its family: 0 of IPv4, 1 of IPv6.
fn words(address: IpAddr) -> ([u64; 2], u64) {
    match address {
        IpAddr::V4(address) => ([0, u64::from(address.to_bits())], 0),
        IpAddr::V6(address) => ([(address.to_bits() >> 64) as u64, address.to_bits() as u64], 1),
    }
}

fn address([upper, lower]: [u64; 2], family: u64) -> Option<IpAddr> {
    match family {
        0 => Some(Ipv4Addr::from_bits(u32::try_from(lower).ok()?).into()),
        1 => Some(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into()),
        _ => None,
    }
}
