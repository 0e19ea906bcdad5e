//! What the numbers in records mean, by content, for the next process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::{Line, Slab};
use hashbrown::HashMap;
use weir_config::model::{Family, Forwarding, Identity, Protocol};

use super::header::{self, Clock, Header, Machine, Refusal};
use super::{load_sealed, store_sealed};
use crate::conn::record::{ServerId, ServiceId, VipId};
use crate::snapshot::Snapshot;
use crate::snapshot::registry::Named;
use crate::snapshot::vips::OWN;

const VIPS: usize = OWN as usize;
const SERVERS: usize = ServerId::MAX as usize + 1;
/// Where the highest number of a real server stands that was ever given, in the header's line of states.
const END: (usize, usize) = (2, 1);
/// Lines of the whole book. Pages of it that no number needs take no memory.
pub const BOOK_LINES: usize = header::LINES + VIPS + SERVERS;

/// See the module. The header stands in front.
pub struct Book {
    lines: Slab<Line>,
    /// Numbers of real servers are written as of this generation.
    generation: u64,
}

/// What a book says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Addresses that clients talk to.
    pub vips: HashMap<VipId, IpAddr>,
    /// Real servers.
    pub servers: HashMap<ServerId, Named>,
}

impl Book {
    /// A new one in `lines`, zeroed, [`BOOK_LINES`] many, of tables that begin with `front`.
    pub fn begin(lines: Slab<Line>, front: &Line, header: &Header, clock: &Clock) -> Self {
        header.write(&lines);
        clock.write(&lines);
        header.mark(front);
        Self { lines, generation: 0 }
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
        Ok((Self { lines, generation: 0 }, header, next))
    }

    /// This process counts time as told from now on.
    pub fn go_on(&self, clock: &Clock) {
        if Clock::read(&self.lines) != Ok(*clock) {
            clock.write(&self.lines);
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
        let end = self.lines[END.0].0[END.1].load(Relaxed).min(SERVERS as u64) as usize;
        let vips = self.lines[header::LINES..][..VIPS].iter().enumerate();
        let vips = vips.filter_map(|(number, line)| {
            let words = load_sealed(line).filter(|words| words[0] == number as u64 + 1)?;
            Some((VipId(number as u16), address([words[1], words[2]], words[3])?))
        });
        let servers = self.lines[header::LINES + VIPS..][..end].iter().enumerate();
        let servers = servers.filter_map(|(number, line)| {
            let words = load_sealed(line).filter(|words| words[0] as u32 == number as u32)?;
            Some((ServerId(number as u32), named(words)?))
        });
        Numbers { vips: vips.collect(), servers: servers.collect() }
    }

    /// Writes down what the numbers of a snapshot mean that will be put in force.
    pub fn note(&mut self, snapshot: &Snapshot) {
        for (number, vip) in snapshot.vips.own() {
            let (words, family) = words(snapshot.ip(vip));
            let wanted = [u64::from(number.0) + 1, words[0], words[1], family, 0, 0, 0];
            self.write(header::LINES + usize::from(number.0), wanted);
        }
        if self.generation == snapshot.numbers_generation {
            return;
        }
        self.generation = snapshot.numbers_generation;
        let end = snapshot.numbered().map(|server| u64::from(server.id.0) + 1).max().unwrap_or(0);
        let known = &self.lines[END.0].0[END.1];
        known.store(known.load(Relaxed).max(end), Release);
        for server in snapshot.numbered() {
            // What is left of a virtual server that is gone stands there already.
            let Some(service) = snapshot.service(server.service) else { continue };
            let service = match service.mark {
                Some(mark) => Identity::Mark { mark, family: Family::of(service.address) },
                None => Identity::Address {
                    address: service.address,
                    port: service.port,
                    protocol: service.protocol,
                },
            };
            let named = Named {
                service,
                service_id: server.service,
                server: (server.ip(), server.named_port),
                forwarding: server.forwarding,
                port: server.port,
            };
            self.write(header::LINES + VIPS + server.id.index(), words_of(server.id, &named));
        }
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
    let (service, mut facts) = match named.service {
        Identity::Address { address, port, protocol } => {
            let (words, family) = words(address);
            ((words, 0), family << 1 | (protocol as u64) << 3 | u64::from(port) << 16)
        }
        Identity::Mark { mark, family } => {
            (([0; 2], u64::from(mark)), u64::from(family == Family::V6) << 1 | 1 << 2)
        }
    };
    let forwarding = match named.forwarding {
        Forwarding::Dr => 0,
        Forwarding::Tun => 1,
        Forwarding::Nat => 2,
    };
    facts |= server_family | forwarding << 5 | u64::from(named.server.1) << 32 | u64::from(named.port) << 48;
    let number = u64::from(id.0) | u64::from(named.service_id.0) << 32;
    [number, facts, service.1, service.0[0], service.0[1], server[0], server[1]]
}

fn named([number, facts, mark, service0, service1, server0, server1]: [u64; 7]) -> Option<Named> {
    let service = match facts >> 2 & 1 {
        0 => Identity::Address {
            address: address([service0, service1], facts >> 1 & 1)?,
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
    };
    Some(Named {
        service,
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
