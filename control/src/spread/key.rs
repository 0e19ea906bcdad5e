//! Toeplitz keys under which both directions of a NAT connection have one hash.
//!
//! A request is `client:port -> VIP:port`, its reply `real server:port -> client:port`. A device hashes
//!
//! ```text
//!  A(source address) ^ B(destination address) ^ P(source port) ^ Q(destination port)
//! ```
//! where `A`, `B`, `P`, `Q` are linear and made of overlapping windows of one key, for each address family others, since
//! addresses differ in length. What is wanted is `X(client address) ^ Y(client port)` in both directions, in the low bits
//! that choose an entry of the indirection table:
//!
//! | a port that receives | needs |
//! |---|---|
//! | requests | `A = X`, `P = Y`, `B = Q = 0` |
//! | replies | `B = X`, `Q = Y`, `A = P = 0` |
//! | both | `A = B = X`, `P = Q = Y`, and `X`, `Y` such that what servers add is nothing |
//!
//! All of that is linear in the bits of the keys, so the keys are the solutions of a system of equations over two
//! elements. Of those one is drawn at random: whoever knows it can aim at one worker.
//!
//! One key serves both families. On a port that receives replies of both, IPv4's `B` lies within IPv6's `A`, which so
//! can't be nothing: there what the real servers add has to be, as where a port receives both directions.

use std::net::{IpAddr, SocketAddr};

use weir_config::model::Family;

/// Octets of a key: what IPv6 takes.
pub(crate) const KEY_LEN: usize = 40;
/// Most low bits of the hash that can be asked for.
pub(crate) const INDEX_BITS_MAX: u32 = 9;
/// How many solutions are looked at for one that spreads well.
const DRAWS: u32 = 64;

/// A key.
pub(crate) type Key = [u8; KEY_LEN];

/// What a port receives of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Clients' packets.
    Requests,
    /// NAT real servers' packets.
    Replies,
    /// Either.
    Both,
}

impl Role {
    fn has_requests(self) -> bool {
        self != Self::Replies
    }

    fn has_replies(self) -> bool {
        self != Self::Requests
    }
}

/// A virtual server and a NAT real server of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) vip: SocketAddr,
    pub(crate) server: SocketAddr,
    /// The port where the real server's packets come in.
    pub(crate) replies: Option<usize>,
}

/// NAT of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) family: Family,
    /// By port number.
    pub(crate) roles: Vec<Role>,
    pub(crate) pairs: Vec<Pair>,
}

/// Where the parts of what is hashed begin, in bits.
#[derive(Clone, Copy)]
struct Layout {
    address_len: usize,
}

/// Bits of a port.
const PORT_LEN: usize = 16;

impl Layout {
    fn of(family: Family) -> Self {
        let address_len = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        Self { address_len }
    }

    /// Address and port of the packet's source.
    fn source(self) -> [usize; 2] {
        [0, 2 * self.address_len]
    }

    /// Those of its destination.
    fn destination(self) -> [usize; 2] {
        [self.address_len, 2 * self.address_len + PORT_LEN]
    }

    /// How many bits are hashed.
    fn len(self) -> usize {
        2 * (self.address_len + PORT_LEN)
    }

    /// The bits that are set of an address and port which begin there.
    fn bits_of(self, socket: SocketAddr, [address_at, port_at]: [usize; 2]) -> Vec<usize> {
        let address = match socket.ip() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let is_set = |number: u128, len: usize, at: usize| number >> (len - 1 - at) & 1 != 0;
        let address_bits = (0..self.address_len).filter(|&at| is_set(address, self.address_len, at));
        let port_bits = (0..PORT_LEN).filter(|&at| is_set(socket.port().into(), PORT_LEN, at));
        address_bits.map(|at| address_at + at).chain(port_bits.map(|at| port_at + at)).collect()
    }
}

/// Keys for all ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// By port number.
    pub(crate) keys: Vec<Key>,
    /// Whether the client's address counts beside its port, in every family.
    pub(crate) by_address: bool,
}

impl Keys {
    /// Keys under which both directions of these have one hash in its `bits` low bits. `None`: there are none that do that and
    /// still spread clients over the whole table, and the ports of one client over `2^port_bits` of its entries.
    pub(crate) fn find(
        (bits, port_bits): (u32, u32),
        traffic: &[Traffic],
        mut random: impl FnMut() -> u64,
    ) -> Option<Self> {
        debug_assert!((1..=INDEX_BITS_MAX).contains(&bits));
        let ports = traffic.first()?.roles.len();
        let draft = Draft::new(bits as usize, ports, traffic);
        let mut system = System::new(draft.unknowns());
        draft.equations(traffic, |equation| system.add(equation));
        let basis = system.solutions();
        let mut draw = || {
            let mut sum = Row::new(draft.unknowns());
            let mut chosen = 0;
            for (at, vector) in basis.iter().enumerate() {
                if at % 64 == 0 {
                    chosen = random();
                }
                if chosen >> (at % 64) & 1 != 0 {
                    sum.add(vector);
                }
            }
            sum
        };
        let score = |solution: &Row| {
            let ranks = |address| traffic.iter().map(move |its| draft.rank(solution, its, address, true));
            (ranks(true).min(), ranks(false).min())
        };
        let best = (0..DRAWS).map(|_| draw()).max_by_key(score)?;
        if score(&best) < (Some(bits), Some(port_bits)) {
            return None;
        }
        let by_address = traffic.iter().all(|its| draft.rank(&best, its, true, false) > 0);
        let keys = (0..ports).map(|port| draft.key(&best, port, &mut random)).collect();
        Some(Self { keys, by_address })
    }
}

/// The unknowns: of each port's key the bits that the windows of the low bits pass over.
#[derive(Clone, Copy)]
struct Draft {
    bits: usize,
    ports: usize,
    /// Unknowns of each port.
    span: usize,
}

impl Draft {
    fn new(bits: usize, ports: usize, traffic: &[Traffic]) -> Self {
        let longest = traffic.iter().map(|its| Layout::of(its.family).len()).max();
        Self { bits, ports, span: longest.unwrap_or_default() + bits - 1 }
    }

    fn unknowns(&self) -> usize {
        self.ports * self.span
    }

    /// Before these bits of a key there are those that no low bit of the hash depends on.
    fn first(&self) -> usize {
        32 - self.bits
    }

    /// The unknown that input bit `at` brings into output bit `output` on a port.
    fn unknown(&self, port: usize, at: usize, output: usize) -> usize {
        port * self.span + at + output
    }

    /// The sums of unknowns that are nothing.
    fn equations(&self, traffic: &[Traffic], mut equation: impl FnMut(Row)) {
        let is_mixed = traffic.len() > 1;
        for its in traffic {
            // What is shorter lies within what is longer, not the other way round.
            let replies_are_silent = !is_mixed || its.family == Family::V4;
            self.same_for_clients(its, &mut equation);
            self.nothing_of_servers(its, replies_are_silent, &mut equation);
            self.nothing_of_pairs(its, replies_are_silent, &mut equation);
        }
    }

    /// On every port and in both directions, a client's address and port count alike.
    fn same_for_clients(&self, traffic: &Traffic, equation: &mut impl FnMut(Row)) {
        let layout = Layout::of(traffic.family);
        let places = traffic.roles.iter().enumerate().flat_map(|(port, role)| {
            let source = role.has_requests().then(|| (port, layout.source()));
            source.into_iter().chain(role.has_replies().then(|| (port, layout.destination())))
        });
        let places: Vec<(usize, [usize; 2])> = places.collect();
        for pair in places.windows(2) {
            let [(one, one_at), (other, other_at)] = pair else { continue };
            for (part, len) in [layout.address_len, PORT_LEN].into_iter().enumerate() {
                for at in 0..len + self.bits - 1 {
                    let mut row = Row::new(self.unknowns());
                    row.flip(self.unknown(*one, one_at[part] + at, 0));
                    row.flip(self.unknown(*other, other_at[part] + at, 0));
                    equation(row);
                }
            }
        }
    }

    /// Where a port receives one direction, the servers' address and port do not count.
    fn nothing_of_servers(
        &self,
        traffic: &Traffic,
        replies_are_silent: bool,
        equation: &mut impl FnMut(Row),
    ) {
        let layout = Layout::of(traffic.family);
        for (port, role) in traffic.roles.iter().enumerate() {
            let silent = match role {
                Role::Requests => layout.destination(),
                Role::Replies if replies_are_silent => layout.source(),
                Role::Replies | Role::Both => continue,
            };
            for (start, len) in silent.into_iter().zip([layout.address_len, PORT_LEN]) {
                for at in 0..len + self.bits - 1 {
                    let mut row = Row::new(self.unknowns());
                    row.flip(self.unknown(port, start + at, 0));
                    equation(row);
                }
            }
        }
    }

    /// Else what the VIP adds to a request and the real server to a reply is the same, on any two ports that these can come in on.
    fn nothing_of_pairs(&self, traffic: &Traffic, replies_are_silent: bool, equation: &mut impl FnMut(Row)) {
        let layout = Layout::of(traffic.family);
        let counts = |port: usize| match traffic.roles.get(port) {
            Some(Role::Both) => true,
            Some(Role::Replies) => !replies_are_silent,
            Some(Role::Requests) | None => false,
        };
        let requests = traffic.roles.iter().enumerate().filter(|(_, role)| role.has_requests());
        let requests: Vec<usize> = requests.map(|(port, _)| port).collect();
        // Thousands of servers differ in some bits alone: what their sums are sums of is enough.
        let mut sums = System::new(self.ports * layout.len());
        for Pair { vip, server, replies } in &traffic.pairs {
            let Some(replies) = *replies else { continue };
            // A real server without a port of its own has the one that the client asked for.
            let mut server = *server;
            if server.port() == 0 {
                server.set_port(vip.port());
            }
            for &request in &requests {
                let (request_counts, reply_counts) = (counts(request), counts(replies));
                let mut sum = Row::new(sums.unknowns);
                let mut add = |port: usize, bits: Vec<usize>| {
                    bits.into_iter().for_each(|at| sum.flip(port * layout.len() + at));
                };
                if request_counts {
                    add(request, layout.bits_of(*vip, layout.destination()));
                }
                if reply_counts {
                    add(replies, layout.bits_of(server, layout.source()));
                }
                sums.add(sum);
                // One end's port alone, and it may be any.
                if vip.port() == 0 && request_counts != reply_counts {
                    let (port, [_, start]) = match request_counts {
                        true => (request, layout.destination()),
                        false => (replies, layout.source()),
                    };
                    for at in start..start + PORT_LEN {
                        let mut sum = Row::new(sums.unknowns);
                        sum.flip(port * layout.len() + at);
                        sums.add(sum);
                    }
                }
            }
        }
        for (_, sum) in &sums.rows {
            for output in 0..self.bits {
                let mut row = Row::new(self.unknowns());
                let added = (0..sums.unknowns).filter(|at| sum.has(*at));
                added.for_each(|at| {
                    row.flip(self.unknown(at / layout.len(), at % layout.len(), output));
                });
                equation(row);
            }
        }
    }

    /// How many of the bits change independently of each other with the client's address, its port, or both.
    fn rank(&self, solution: &Row, traffic: &Traffic, with_address: bool, with_port: bool) -> u32 {
        let layout = Layout::of(traffic.family);
        let mut roles = traffic.roles.iter().enumerate();
        let Some((port, role)) = roles.next() else { return 0 };
        let [address_at, port_at] = if role.has_requests() { layout.source() } else { layout.destination() };
        let address = (0..layout.address_len).filter(|_| with_address).map(|at| address_at + at);
        let ports = (0..PORT_LEN).filter(|_| with_port).map(|at| port_at + at);
        let mut columns: Vec<u64> = Vec::new();
        for at in address.chain(ports) {
            let is_set = |output| solution.has(self.unknown(port, at, output));
            let column = (0..self.bits).fold(0, |column, output| column << 1 | u64::from(is_set(output)));
            let reduced = columns.iter().fold(column, |left, known| left.min(left ^ known));
            if reduced != 0 {
                columns.push(reduced);
            }
        }
        columns.len() as u32
    }

    /// A port's key. Bits that no packet meets are as `random` has them.
    fn key(&self, solution: &Row, port: usize, mut random: impl FnMut() -> u64) -> Key {
        let mut key = [0; KEY_LEN];
        for octets in key.chunks_mut(8) {
            octets.copy_from_slice(&random().to_be_bytes()[..octets.len()]);
        }
        for at in 0..self.span {
            let place = self.first() + at;
            let (octet, bit) = (place / 8, 7 - place % 8);
            let value = u8::from(solution.has(self.unknown(port, at, 0)));
            key[octet] = key[octet] & !(1 << bit) | value << bit;
        }
        key
    }
}

/// A sum of unknowns, or a value for each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row(Vec<u64>);

impl Row {
    fn new(unknowns: usize) -> Self {
        Self(vec![0; unknowns.div_ceil(64)])
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 != 0
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word ^= other);
    }

    /// The first of its unknowns.
    fn leading(&self) -> Option<usize> {
        let (at, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}

/// Homogeneous equations over two elements, kept reduced: each row has a leading unknown that no other row has.
struct System {
    unknowns: usize,
    rows: Vec<(usize, Row)>,
}

impl System {
    fn new(unknowns: usize) -> Self {
        Self { unknowns, rows: Vec::new() }
    }

    fn add(&mut self, mut equation: Row) {
        for (leading, row) in &self.rows {
            if equation.has(*leading) {
                equation.add(row);
            }
        }
        let Some(leading) = equation.leading() else { return };
        for (_, row) in &mut self.rows {
            if row.has(leading) {
                row.add(&equation);
            }
        }
        self.rows.push((leading, equation));
    }

    /// A basis of all solutions: one for each unknown that leads no row.
    fn solutions(&self) -> Vec<Row> {
        let mut led = Row::new(self.unknowns);
        self.rows.iter().for_each(|(leading, _)| led.flip(*leading));
        let free = (0..self.unknowns).filter(|unknown| !led.has(*unknown));
        free.map(|unknown| {
            let mut solution = Row::new(self.unknowns);
            solution.flip(unknown);
            let dependent = self.rows.iter().filter(|(_, row)| row.has(unknown));
            dependent.for_each(|(leading, _)| solution.flip(*leading));
            solution
        })
        .collect()
    }
}
