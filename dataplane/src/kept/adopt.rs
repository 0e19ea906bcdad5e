//! From what was kept to tables that workers use.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dpdk::KeptMemory;
use dpdk::memory::{Line, Slab};
use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Family, Identity, Protocol};

use super::book::{BOOK_LINES, Book, Numbers};
use super::header::{Clock, Header, Machine, Refusal};
use crate::conn::record::{Record, ServerId, ServiceId, VipId};
use crate::conn::state::is_active;
use crate::conn::table::{HashKey, Table, Verdict};
use crate::conn::template::{Loose, Owner, Templates, begins_network};
use crate::snapshot::registry::{Resumed, Standing, Ties, vips};
use crate::snapshot::vips::OWN;

/// Which connections of the process before go on with a file, and which templates. Those whose virtual server, or whose address, it does
/// not have end, as they do after a reload; and so does what can be no connection, whoever has written it.
#[derive(Clone)]
pub struct Judge {
    /// By number, for those whose virtual server the file has: many millions of records ask.
    servers: Vec<Option<Known>>,
    vips: Vec<Option<IpAddr>>,
    has_ties: bool,
}

/// What is known of a real server.
#[derive(Clone, Copy)]
struct Known {
    service: Identity,
    /// Whose templates tie to it and what they mean, if that is what they mean with this file.
    ties: Option<(Owner, Ties)>,
}

impl Judge {
    /// By these numbers.
    pub fn new(numbers: &Numbers, config: &Config) -> Self {
        let wanted: HashSet<Identity> =
            config.virtual_servers.iter().map(|server| server.identity()).collect();
        let tied_by = config.virtual_servers.iter();
        let tied_by: HashMap<Identity, _> =
            tied_by.filter_map(|server| Some((server.identity(), server.persistence?.tied_by()))).collect();
        let ties_of = |service: ServiceId, identity: Identity| {
            let ties = numbers.ties.get(&service).filter(|ties| ties.service == identity)?;
            let means_the_same = tied_by.get(&identity) == Some(&ties.by);
            means_the_same.then_some((Owner { service, epoch: ties.epoch }, *ties))
        };
        let mut servers = vec![None; numbers.servers_end()];
        for (id, named) in numbers.servers.iter().filter(|(_, named)| wanted.contains(&named.service)) {
            let ties = ties_of(named.service_id, named.service);
            servers[id.index()] = Some(Known { service: named.service, ties });
        }
        let addresses = vips(config);
        let end = numbers.vips.keys().map(|number| usize::from(number.0) + 1).max().unwrap_or(0);
        let mut vips = vec![None; end];
        for (number, vip) in numbers.vips.iter().filter(|(_, vip)| addresses.contains(*vip)) {
            vips[usize::from(number.0)] = Some(*vip);
        }
        let has_ties = servers.iter().flatten().any(|known: &Known| known.ties.is_some());
        Self { servers, vips, has_ties }
    }

    /// What becomes of a record. Whether it hangs on a template that goes on: [`Judge::tie`].
    pub fn judge(&self, record: Record) -> Verdict {
        if !self.goes_on(record) {
            return Verdict::End;
        }
        if record.is_templated() && self.ties_of(record.server()).is_none() {
            return Verdict::Update(record.without_template());
        }
        Verdict::Keep
    }

    /// Counts in all connections that hang on a template. The others of those that say so hang on none from now on.
    pub fn tie(&self, tables: &mut [Table], templates: &Templates) {
        // Then none says so.
        if !self.has_ties {
            return;
        }
        for table in tables {
            let (view, lines) = (table.view(), table.lines());
            let hangs = |record: Record| {
                let ((owner, ties), client) = self.ties_of(record.server()).zip(view.client(record))?;
                templates.tie(client, ties.by.0, owner, record.server()).then_some(())
            };
            table.sweep(lines, None, |record| match record.is_templated() && hangs(record).is_none() {
                true => Verdict::Update(record.without_template()),
                false => Verdict::Keep,
            });
        }
    }

    /// Whether a template goes on: its virtual server and its real server are the same as ever.
    fn has_template(&self, address: IpAddr, owner: Owner, server: ServerId) -> bool {
        self.ties_of(server).is_some_and(|(its, ties)| {
            let family = match ties.service {
                Identity::Address { address, .. } => Family::of(address),
                Identity::Mark { family, .. } => family,
            };
            its == owner
                && match ties.by {
                    (netmask, None) => family == Family::of(address) && begins_network(address, netmask),
                    // Those of calls lie among those of IPv6, whatever the family, and any number may be a call's.
                    (_, Some(_)) => address.is_ipv6(),
                }
        })
    }

    /// What packets of this connection look like, if its address has a number of its own. Of IPv6 `client` is its client's address.
    fn asked(&self, record: Record, client: Option<Ipv6Addr>) -> Option<Asked> {
        let vip = self.vips.get(usize::from(record.vip().0)).copied().flatten()?;
        let client = client.map_or_else(|| record.client().into(), IpAddr::V6);
        Some(Asked {
            client: SocketAddr::new(client, record.client_port()),
            server: SocketAddr::new(vip, record.port()),
            protocol: record.protocol(),
        })
    }

    /// Whose templates tie to a real server, and what they mean.
    fn ties_of(&self, server: ServerId) -> Option<(Owner, Ties)> {
        self.known(server)?.ties
    }

    fn known(&self, server: ServerId) -> Option<&Known> {
        self.servers.get(server.index())?.as_ref()
    }

    pub(super) fn goes_on(&self, record: Record) -> bool {
        let Some(known) = self.known(record.server()) else { return false };
        let vip = self.vips.get(usize::from(record.vip().0)).copied().flatten();
        match known.service {
            Identity::Address { address, port, protocol } => {
                vip == Some(address)
                    && protocol == record.protocol()
                    // Data connections of FTP have ports of their own.
                    && (port == 0 || port == record.port() || record.is_helped())
                    && address.is_ipv6() == record.client().is_of_ipv6()
            }
            // The addresses of its wide networks have numbers that they share.
            Identity::Mark { .. } => vip.is_some() || record.vip().0 >= OWN,
        }
    }
}

/// All that a process before has left.
pub struct Left {
    /// What its numbers mean.
    pub book: Book,
    /// How large its tables are.
    pub header: Header,
    /// As this process goes on with it.
    pub clock: Clock,
    /// What the book says.
    pub numbers: Numbers,
    /// Who goes on.
    pub judge: Judge,
    /// By worker.
    pub tables: Vec<Table>,
    /// Of all workers.
    pub templates: Templates,
    /// What there is to say of it.
    pub adopted: Adopted,
}

/// The same, with nothing looked at but what the book says.
pub struct Opened {
    pub(super) book: Book,
    pub(super) header: Header,
    pub(super) clock: Clock,
    pub(super) numbers: Numbers,
    pub(super) judge: Judge,
    pub(super) pieces: Pieces,
}

impl Opened {
    /// From the book and the tables.
    ///
    /// # Errors
    /// Why it can't be taken over.
    pub fn of(files: &mut [KeptMemory; 2], machine: &Machine, config: &Config) -> Result<Self, Refusal> {
        let [book, tables] = files;
        let (found, wanted) = (book.octets() as u64, (BOOK_LINES * size_of::<Line>()) as u64);
        let lines = book.cut(BOOK_LINES).ok_or(Refusal::Truncated { found, wanted })?;
        let (book, header, clock) = Book::read(lines, machine)?;
        let front = tables.cut(1).ok_or(Refusal::OtherTables)?;
        book.check(&header, &front[0], tables.octets() as u64)?;
        let pieces = lay_out(&header, |lines| tables.cut(lines)).ok_or(Refusal::OtherTables)?;
        let numbers = book.numbers();
        let judge = Judge::new(&numbers, config);
        Ok(Self { book, header, clock, numbers, judge, pieces })
    }

    /// How large the tables are.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Looks at all of it.
    pub fn at_once(self) -> Left {
        let Self { book, header, clock, numbers, judge, pieces } = self;
        let sizes = (header.table_capacity(), header.hash_key());
        let (tables, templates, adopted) = adopt(pieces, sizes, &judge);
        Left { book, header, clock, numbers, judge, tables, templates, adopted }
    }
}

/// Tables that go on, and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adopted {
    /// Connections that the process before had.
    pub found: usize,
    /// Those that go on.
    pub kept: usize,
    /// Templates that do.
    pub templates: usize,
    /// Tables that were not in order, so that all of their records were put in anew.
    pub rebuilt: usize,
}

/// The tables' memory, cut.
pub struct Pieces {
    /// By worker: table and clients.
    pub tables: Vec<(Slab<Line>, Slab<Line>)>,
    /// Templates of IPv4 and of IPv6.
    pub templates: (Slab<Line>, Slab<Line>),
}

/// Cuts the tables' memory, without its first line. `None`: it is too small.
pub fn lay_out(header: &Header, mut cut: impl FnMut(usize) -> Option<Slab<Line>>) -> Option<Pieces> {
    let mut cut = |lines: u64| usize::try_from(lines).ok().and_then(&mut cut);
    let tables = (0..header.workers).map(|_| Some((cut(header.table_lines)?, cut(header.client_lines)?)));
    let tables = tables.collect::<Option<_>>()?;
    let [v4, v6] = header.template_lines;
    Some(Pieces { tables, templates: (cut(v4)?, cut(v6)?) })
}

/// Takes over the tables of all workers, and their templates, as they are.
fn adopt(
    pieces: Pieces,
    (capacity, key): (usize, HashKey),
    judge: &Judge,
) -> (Vec<Table>, Templates, Adopted) {
    let mut adopted = Adopted::default();
    let tables = pieces.tables.into_iter().map(|piece| {
        let (table, left) = Table::adopt(piece, capacity, key, |record| judge.judge(record));
        adopted.found += left.found;
        adopted.kept += left.kept;
        adopted.rebuilt += usize::from(left.rebuilt);
        table
    });
    let mut tables: Vec<Table> = tables.collect();
    let is_known = |address, owner, server| judge.has_template(address, owner, server);
    let templates = Templates::adopt(pieces.templates, key, is_known);
    judge.tie(&mut tables, &templates);
    adopted.templates = templates.total();
    (tables, templates, adopted)
}

/// A connection as its client's packets name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Who asks.
    pub client: SocketAddr,
    /// Whom.
    pub server: SocketAddr,
    /// And how.
    pub protocol: Protocol,
}

/// Connections outside of any table, by worker, on their way into others, and templates.
pub struct Census {
    records: Vec<Vec<(Record, Option<Ipv6Addr>)>>,
    templates: Loose,
}

impl Census {
    /// Those of these tables.
    pub fn of(tables: &[Table], templates: &Templates) -> Self {
        let of = |table: &Table| {
            let client = |record: Record| {
                let client = record.client();
                (record, client.is_of_ipv6().then(|| table.clients.address(client)).flatten())
            };
            table.iter().map(client).collect()
        };
        Self { records: tables.iter().map(of).collect(), templates: templates.loose() }
    }

    /// Puts them into other tables: with as many workers each into its own one's; else into that of the worker that will get its packets if
    /// there is room, and in turn where `worker_of` does not know. Returns how many found room.
    pub fn put_into(
        self,
        tables: &mut [Table],
        templates: &Templates,
        judge: &Judge,
        worker_of: impl Fn(Asked) -> Option<usize>,
    ) -> usize {
        let (before, workers) = (self.records.len(), tables.len());
        let records = self.records.into_iter().enumerate().flat_map(|(worker, records)| {
            records.into_iter().map(move |(record, client)| (worker, record, client))
        });
        let mut put = 0;
        for (number, (worker, record, client)) in records.enumerate() {
            let (worker, places) = match before == workers {
                true => (worker, 1),
                // Where there is no room for it, it is found in another one's.
                false => (judge.asked(record, client).and_then(&worker_of).unwrap_or(number), workers),
            };
            let has_room = |place: usize| tables[(worker + place) % workers].take_in(record, client).is_ok();
            put += usize::from((0..places).any(has_room));
        }
        templates.take_in(self.templates);
        judge.tie(tables, templates);
        put
    }
}

impl Standing {
    /// What the connections of these tables name, and the templates, by these numbers.
    pub fn of(tables: &[Table], templates: &Templates, numbers: &Numbers) -> Self {
        let named: Vec<Counted> =
            tables.iter().map(|table| Counted::of(table, numbers.servers_end())).collect();
        let is_tied: HashSet<ServerId> = templates.listed().map(|(_, template)| template.server()).collect();
        let servers = numbers.servers.iter().filter_map(|(id, its)| {
            let counts: Vec<[u32; 2]> = named.iter().map(|named| named.counts[id.index()]).collect();
            let is_named = is_tied.contains(id) || counts.iter().any(|count| *count != [0; 2]);
            is_named.then_some(Resumed { id: *id, named: *its, counts })
        });
        let is_named = |vip: &VipId| named.iter().any(|named| named.vips[usize::from(vip.0)]);
        let vips = numbers.vips.iter().filter(|(vip, _)| is_named(vip));
        let hash = |which: usize| named.iter().any(|named| named.hashes[which]);
        Self {
            vips: vips.map(|(number, vip)| (*number, *vip)).collect(),
            servers: servers.collect(),
            ties: numbers.ties.values().copied().collect(),
            hashes: [hash(0), hash(1)],
            shares_numbers: (OWN..=u16::MAX).any(|number| is_named(&VipId(number))),
        }
    }
}

/// What the connections of one table name.
struct Counted {
    /// Active and inactive ones by the number of their real server.
    counts: Vec<[u32; 2]>,
    /// By number.
    vips: Vec<bool>,
    hashes: [bool; 2],
}

impl Counted {
    /// With real servers below `end`.
    fn of(table: &Table, end: usize) -> Self {
        let vips = vec![false; usize::from(u16::MAX) + 1];
        let mut counted = Self { counts: vec![[0; 2]; end], vips, hashes: [false; 2] };
        for record in table.iter() {
            let is_inactive = !is_active(record.protocol(), record.state());
            if let Some(counts) = counted.counts.get_mut(record.server().index()) {
                counts[usize::from(is_inactive)] += 1;
            }
            counted.vips[usize::from(record.vip().0)] = true;
            counted.hashes[usize::from(record.is_of_any_port())] = true;
        }
        counted
    }
}
