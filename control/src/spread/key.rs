//! Toeplitz keys under which both directions of a NAT connection have one hash.
//!
//! A request is `client:port -> VIP:port`, its reply `real server:port -> client:port`. A device hashes
//!
//! ```text
//!  A(source address) ^ B(destination address) ^ P(source port) ^ Q(destination port)
//! ```
//! where `A`, `B`, `P`, `Q` are linear and made of overlapping windows of one key. What is wanted is `X(client address)
//! ^ Y(client port)` in both directions, in the low bits that choose an entry of the indirection table:
//!
//! | a port that receives | needs |
//! |---|---|
//! | requests | `A = X`, `P = Y`, `B = Q = 0` |
//! | replies | `B = X`, `Q = Y`, `A = P = 0` |
//! | both | `A = B = X`, `P = Q = Y`, and `X`, `Y` such that what servers add is nothing |
//!
//! All of that is linear in the bits of the key, so the keys are the solutions of a system of equations over two
//! elements. Of those one is drawn at random: whoever knows it can aim at one worker.

/// Octets of a key: what IPv6 takes.
pub(crate) const KEY_LEN: usize = 40;
/// Most low bits of the hash that can be asked for: the unknowns fit 64 bits.
pub(crate) const INDEX_BITS_MAX: u32 = 9;
/// How many solutions are looked at for one that spreads well.
const DRAWS: u32 = 64;

/// What a port receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Clients' packets.
    Requests,
    /// NAT real servers' packets.
    Replies,
    /// Either.
    Both,
}

/// `X` and `Y`, as the strings of key bits that their windows move over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientHash {
    bits: u32,
    /// `x[i]`, then `y[i]`, from bit 0 on.
    solution: u64,
}

impl ClientHash {
    /// A hash of `bits` low bits for ports with these roles. `silent` are the sums (exclusive or) of server addresses
    /// and ports that must not change it. `None`: no key does that and still spreads clients over the whole table, and
    /// the ports of one client over `2^port_bits` of its entries.
    pub(crate) fn find(
        (bits, port_bits): (u32, u32),
        roles: &[Role],
        silent: &[(u32, u16)],
        mut random: impl FnMut() -> u64,
    ) -> Option<Self> {
        debug_assert!((1..=INDEX_BITS_MAX).contains(&bits));
        let mut system = System::new(unknowns(bits));
        roles.iter().for_each(|role| overlaps(bits, *role, |equation| system.add(equation)));
        for &(address, port) in silent {
            contributions(bits, address, port).for_each(|equation| system.add(equation));
        }
        let basis = system.solutions();
        let mut draw = || {
            let chosen = random();
            let picked = basis.iter().enumerate().filter(|(at, _)| chosen >> at & 1 != 0);
            Self { bits, solution: picked.fold(0, |sum, (_, vector)| sum ^ vector) }
        };
        let best =
            (0..DRAWS).map(|_| draw()).max_by_key(|hash| (hash.rank(true, true), hash.rank(false, true)))?;
        (best.rank(true, true) == bits && best.rank(false, true) >= port_bits).then_some(best)
    }

    /// The low bits of the hash of a client.
    #[cfg(test)]
    pub(crate) fn of(&self, address: u32, port: u16) -> u32 {
        contributions(self.bits, address, port)
            .fold(0, |hash, equation| hash << 1 | u32::from(self.is_odd(equation)))
    }

    /// Whether the client's address counts; its port always does.
    pub(crate) fn depends_on_address(&self) -> bool {
        self.rank(true, false) > 0
    }

    /// The key for a port with this role. Bits that no IPv4 packet meets are as `random` has them.
    pub(crate) fn key(&self, role: Role, mut random: impl FnMut() -> u64) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        for octets in key.chunks_mut(8) {
            octets.copy_from_slice(&random().to_be_bytes()[..octets.len()]);
        }
        let (x_len, y_len) = (x_len(self.bits), y_len(self.bits));
        let (x, y) = (self.solution, self.solution >> x_len);
        let mut write = |start: u32, len: u32, pattern: u64| {
            for at in 0..len {
                let (octet, bit) = ((start + at) as usize / 8, 7 - (start + at) % 8);
                key[octet] = key[octet] & !(1 << bit) | ((pattern >> at & 1) as u8) << bit;
            }
        };
        let (requests, replies) = (role != Role::Replies, role != Role::Requests);
        // The windows that are nothing go first: what overlaps with the others is nothing there too.
        let first = 32 - self.bits;
        for (start, len) in [(first, x_len), (first + 32, x_len), (first + 64, y_len), (first + 80, y_len)] {
            write(start, len, 0);
        }
        if requests {
            write(first, x_len, x);
            write(first + 64, y_len, y);
        }
        if replies {
            write(first + 32, x_len, x);
            write(first + 80, y_len, y);
        }
        key
    }

    /// How many of the bits change independently of each other with the client's address, its port, or both.
    fn rank(&self, with_address: bool, with_port: bool) -> u32 {
        let address = (0..32).filter(|_| with_address).map(|bit| (1 << bit, 0));
        let port = (0..16).filter(|_| with_port).map(|bit| (0, 1 << bit));
        let mut columns = System::new(self.bits);
        for (address, port) in address.chain(port) {
            let column = contributions(self.bits, address, port)
                .fold(0, |column, equation| column << 1 | u64::from(self.is_odd(equation)));
            columns.add(column);
        }
        columns.rows.len() as u32
    }

    /// The sum of the unknowns in `equation`.
    fn is_odd(&self, equation: u64) -> bool {
        (self.solution & equation).count_ones() % 2 == 1
    }
}

/// Key bits that the windows of an address pass over.
fn x_len(bits: u32) -> u32 {
    31 + bits
}

/// Key bits that the windows of a port pass over.
fn y_len(bits: u32) -> u32 {
    15 + bits
}

fn unknowns(bits: u32) -> u32 {
    x_len(bits) + y_len(bits)
}

/// The sums of unknowns that are the bits of `X(address) ^ Y(port)`, the highest bit first.
fn contributions(bits: u32, address: u32, port: u16) -> impl Iterator<Item = u64> {
    // Bit 0 of an unknown's string belongs to the first bit on the wire.
    let address = u64::from(address.reverse_bits());
    let port = u64::from(port.reverse_bits()) << x_len(bits);
    (0..bits).map(move |output| (address ^ port) << output)
}

/// What the windows of one key have in common, as sums of unknowns that are nothing.
fn overlaps(bits: u32, role: Role, mut equation: impl FnMut(u64)) {
    let x = |at: u32| 1_u64 << at;
    let y = |at: u32| 1_u64 << (x_len(bits) + at);
    for at in 0..bits - 1 {
        match role {
            Role::Requests => [x(32 + at), y(at), y(16 + at)].map(&mut equation),
            Role::Replies => [x(at), x(32 + at), y(at)].map(&mut equation),
            Role::Both => [x(at) ^ x(32 + at), x(32 + at) ^ y(at), y(at) ^ y(16 + at)].map(&mut equation),
        };
    }
}

/// Homogeneous equations over two elements, kept reduced: each row has a leading bit that no other row has.
struct System {
    unknowns: u32,
    rows: Vec<u64>,
}

impl System {
    fn new(unknowns: u32) -> Self {
        debug_assert!(unknowns <= 64);
        Self { unknowns, rows: Vec::new() }
    }

    fn add(&mut self, mut equation: u64) {
        for row in &self.rows {
            if equation & leading(*row) != 0 {
                equation ^= row;
            }
        }
        if equation == 0 {
            return;
        }
        for row in &mut self.rows {
            if *row & leading(equation) != 0 {
                *row ^= equation;
            }
        }
        self.rows.push(equation);
    }

    /// A basis of all solutions: one for each unknown that leads no row.
    fn solutions(&self) -> Vec<u64> {
        let led = self.rows.iter().fold(0, |led, row| led | leading(*row));
        let free = (0..self.unknowns).map(|at| 1_u64 << at).filter(|unknown| led & unknown == 0);
        free.map(|unknown| {
            let dependent = self.rows.iter().filter(|row| **row & unknown != 0);
            dependent.fold(unknown, |solution, row| solution | leading(*row))
        })
        .collect()
    }
}

/// The highest bit of a row.
fn leading(row: u64) -> u64 {
    1 << (63 - row.leading_zeros())
}
