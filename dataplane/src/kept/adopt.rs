//! From what was kept to tables that workers use.

use std::net::{IpAddr, Ipv6Addr};

use dpdk::memory::{Line, Slab};
use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Identity};

use super::book::Numbers;
use super::header::Header;
use crate::conn::record::{Record, ServerId, VipId};
use crate::conn::state::is_active;
use crate::conn::table::{HashKey, Table, Verdict};
use crate::snapshot::registry::{Resumed, Standing, vips};
use crate::snapshot::vips::OWN;

/// Which connections of the process before go on with a file. Those whose virtual server, or whose address, it does not have end, as they do
/// after a reload; and so does what can be no connection, whoever has written it.
pub struct Judge {
    servers: HashMap<ServerId, Identity>,
    vips: HashMap<VipId, IpAddr>,
}

impl Judge {
    /// By these numbers.
    pub fn new(numbers: &Numbers, config: &Config) -> Self {
        let wanted: HashSet<Identity> =
            config.virtual_servers.iter().map(|server| server.identity()).collect();
        let known = numbers.servers.iter().map(|(number, named)| (*number, named.service));
        let addresses = vips(config);
        let its = numbers.vips.iter().filter(|(_, vip)| addresses.contains(*vip));
        Self {
            servers: known.filter(|(_, service)| wanted.contains(service)).collect(),
            vips: its.map(|(number, vip)| (*number, *vip)).collect(),
        }
    }

    /// What becomes of a record. Templates are not kept, so it hangs on none.
    pub fn judge(&self, record: Record) -> Verdict {
        if !self.goes_on(record) {
            return Verdict::End;
        }
        if record.is_templated() { Verdict::Update(record.without_template()) } else { Verdict::Keep }
    }

    fn goes_on(&self, record: Record) -> bool {
        let Some(service) = self.servers.get(&record.server()) else { return false };
        let vip = self.vips.get(&record.vip());
        match *service {
            Identity::Address { address, port, protocol } => {
                vip == Some(&address)
                    && protocol == record.protocol()
                    && (port == 0 || port == record.port())
                    && address.is_ipv6() == record.client().is_of_ipv6()
            }
            // The addresses of its wide networks have numbers that they share.
            Identity::Mark { .. } => vip.is_some() || record.vip().0 >= OWN,
        }
    }
}

/// Tables that go on, and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adopted {
    /// Connections that the process before had.
    pub found: usize,
    /// Those that go on.
    pub kept: usize,
    /// Tables that were not in order, so that all of their records were put in anew.
    pub rebuilt: usize,
}

/// Cuts the tables' memory, without its first line, into each worker's: table and clients. `None`: it is too small.
pub fn lay_out(
    header: &Header,
    mut cut: impl FnMut(usize) -> Option<Slab<Line>>,
) -> Option<Vec<(Slab<Line>, Slab<Line>)>> {
    let [table, clients] = [header.table_lines, header.client_lines].map(|lines| usize::try_from(lines).ok());
    let (table, clients) = (table?, clients?);
    (0..header.workers).map(|_| Some((cut(table)?, cut(clients)?))).collect()
}

/// Takes over the tables of all workers as they are.
pub fn adopt(
    pieces: Vec<(Slab<Line>, Slab<Line>)>,
    (capacity, key): (usize, HashKey),
    judge: &Judge,
) -> (Vec<Table>, Adopted) {
    let mut adopted = Adopted::default();
    let tables = pieces.into_iter().map(|piece| {
        let (table, left) = Table::adopt(piece, capacity, key, |record| judge.judge(record));
        adopted.found += left.found;
        adopted.kept += left.kept;
        adopted.rebuilt += usize::from(left.rebuilt);
        table
    });
    (tables.collect(), adopted)
}

/// Connections outside of any table, by worker, on their way into others.
pub struct Census {
    records: Vec<Vec<(Record, Option<Ipv6Addr>)>>,
}

impl Census {
    /// Those of these tables.
    pub fn of(tables: &[Table]) -> Self {
        let of = |table: &Table| {
            let client = |record: Record| {
                let client = record.client();
                (record, client.is_of_ipv6().then(|| table.clients.address(client)).flatten())
            };
            table.iter().map(client).collect()
        };
        Self { records: tables.iter().map(of).collect() }
    }

    /// Puts them into other tables: with as many workers each into its own one's. Returns how many found room.
    pub fn put_into(self, tables: &mut [Table]) -> usize {
        let (before, workers) = (self.records.len(), tables.len());
        let records = self.records.into_iter().enumerate().flat_map(|(worker, records)| {
            records.into_iter().map(move |(record, client)| (worker, record, client))
        });
        let mut put = 0;
        for (number, (worker, record, client)) in records.enumerate() {
            let worker = if before == workers { worker } else { number % workers };
            put += usize::from(tables[worker].take_in(record, client).is_ok());
        }
        put
    }
}

impl Standing {
    /// What the connections of these tables name, by these numbers.
    pub fn of(tables: &[Table], numbers: &Numbers) -> Self {
        let mut servers: HashMap<ServerId, Vec<[u32; 2]>> = HashMap::new();
        let mut vips: HashSet<VipId> = HashSet::new();
        let mut hashes = [false; 2];
        for (worker, table) in tables.iter().enumerate() {
            for record in table.iter() {
                let counts = servers.entry(record.server()).or_insert_with(|| vec![[0; 2]; tables.len()]);
                let is_inactive = !is_active(record.protocol(), record.state());
                counts[worker][usize::from(is_inactive)] += 1;
                vips.insert(record.vip());
                hashes[usize::from(record.is_of_any_port())] = true;
            }
        }
        let servers = servers
            .into_iter()
            .filter_map(|(id, counts)| Some(Resumed { id, named: *numbers.servers.get(&id)?, counts }));
        let vips = vips.into_iter().filter_map(|vip| Some((vip, *numbers.vips.get(&vip)?)));
        Self { vips: vips.collect(), servers: servers.collect(), hashes }
    }
}
