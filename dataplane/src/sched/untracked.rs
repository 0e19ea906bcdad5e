//! Flows without a record: the real server that each goes to, by its two ends and the weights alone.
//!
//! Weighted rendezvous hashing. Each flow draws a number with each real server, exponentially distributed with the weight as
//! its rate, and goes where the number is least: so shares are in proportion to the weights. A draw depends on the flow, on
//! the real server and on its weight, and on nothing else. So when one weight changes, only flows of that real server move,
//! to or from it, as many as its share changes by; and when one leaves the list, the others keep what they have.
//!
//! What is hashed stands in the packet and in the file, and hashes have no secret: every worker picks the same, and so does
//! another director with the same file, or this one after a restart, in whatever order their lists are. Thresholds have no
//! part in it: such flows are not counted, and a flag that comes and goes would move them back and forth.
//!
//! A short list is walked. In a long one that would be what a flood costs for each packet, so there the draws are looked at in
//! rising order, until nobody who is left can draw a lesser number. That is possible because of what a draw is made of:
//!
//! | bits | are | so |
//! |---|---|---|
//! | first `LAP_BITS` | hashed of flow and real server | one real server in `LAPS` draws in the first lap |
//! | next `SEAT_BITS` | the rank of the real server's seat, of `SEATS`, in an order that the flow makes of them | whoever goes by the seats in this order meets the draws of the first lap as they rise |
//! | the rest | hashed | those of one seat draw apart |
//!
//! The greatest weight says how far to go, so many real servers of about one weight are taken together, with those few that weigh
//! less. It makes no difference to what is picked, only to how many are looked at: some `LAPS` real servers, and seats in
//! inverse proportion to how many have one (`dr-full-16` and `dr-full-1000` of `benches/instructions`).
//!
//! Two real servers of one seat take flows from each other where both draw in the same lap, so that each has up to a
//! thirty-second less than its share. With a thousand real servers every fifth has such a neighbour.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::Addr4;

/// Odd numbers without a pattern, of the digits of pi.
const MIX: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

/// More of them would mean fewer real servers that take flows from each other, and more that are looked at.
const LAP_BITS: u32 = 4;
const LAPS: u32 = 1 << LAP_BITS;
/// More of them would mean the same, and more seats that nobody has.
const SEAT_BITS: u32 = 12;
const SEATS: u32 = 1 << SEAT_BITS;
/// A draw is exact as a number of 24 bits, of which the last one says that it is not 0.
const FINE_BITS: u32 = DRAW_BITS - LAP_BITS - SEAT_BITS;
const DRAW_BITS: u32 = 23;
/// Where the rank lies in a draw.
const RANK: u32 = (SEATS - 1) << FINE_BITS;
/// To go by a real server in a walk takes as long as to go by so many seats.
const SEATS_PER_WALKED: f32 = 3.0;
/// So few real servers are not worth seats: these take 16 KiB.
const WALKED_MAX: usize = 64;

/// The two ends of a flow as a number that is even over all its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// Of a client's packet: address and port from which, to which, and the IP protocol.
    pub fn new(source: (Addr4, u16), destination: (Addr4, u16), protocol: u8) -> Self {
        let end = |(address, port): (Addr4, u16)| u64::from(address.bits()) << 16 | u64::from(port);
        Self::of(end(source), end(destination), protocol)
    }

    /// As [`FlowHash::new`], from the first of these ends to the second.
    pub fn of_ipv6(ends: [(Ipv6Addr, u16); 2], protocol: u8) -> Self {
        let [source, destination] = ends.map(|(address, port)| bits6(address) << 16 | u64::from(port));
        Self::of(source, destination, protocol)
    }

    /// Of a call of SIP, by its digest.
    pub fn of_call([upper, lower]: [u64; 2]) -> Self {
        Self::of(upper, lower, 0)
    }

    #[inline]
    fn of(source: u64, destination: u64, protocol: u8) -> Self {
        let source = fold(source ^ MIX[0], MIX[1]);
        Self(fold(source ^ destination ^ u64::from(protocol) << 48, MIX[2]))
    }

    /// What lap and the last bits of a draw are taken from.
    #[inline]
    fn mixed(self, server: ServerHash) -> u64 {
        fold(self.0 ^ server.0, MIX[1])
    }

    /// The order of the seats.
    #[inline]
    fn order(self) -> Order {
        Order { factor: (self.0 as u32 | 1) << FINE_BITS, first: (self.0 >> 32) as u32 }
    }
}

/// A real server as a number that is even over all its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerHash(u64);

/// An IPv6 address in 48 bits.
fn bits6(address: Ipv6Addr) -> u64 {
    let bits = address.to_bits();
    fold(fold((bits >> 64) as u64 ^ MIX[1], MIX[0]) ^ bits as u64, MIX[2]) >> 16
}

impl ServerHash {
    /// Of its address and port, as the file has them.
    pub fn new(address: IpAddr, port: u16) -> Self {
        let bits = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => bits6(address),
        };
        let name = bits << 16 | u64::from(port);
        Self(fold(fold(name ^ MIX[2], MIX[0]) ^ name, MIX[1]))
    }

    fn seat(self) -> usize {
        self.0 as usize % SEATS as usize
    }
}

/// An order of the seats: that of the rank `factor * seat + first`, modulo [`SEATS`]. Both are kept where the rank lies in a draw.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// Odd, so that no two seats have the same rank.
    factor: u32,
    first: u32,
}

impl Order {
    /// The rank of a real server's seat, in its place. Higher bits than those of the seat make no difference to it.
    #[inline]
    fn rank(self, server: ServerHash) -> u32 {
        self.factor.wrapping_mul(server.0 as u32).wrapping_add(self.first) & RANK
    }

    /// The seat of the first rank, and how far it is to that of the next.
    #[inline]
    fn seats(self) -> (u32, u32) {
        let (factor, first) = (self.factor >> FINE_BITS, self.first >> FINE_BITS);
        // An odd number is its own inverse modulo 8; each step doubles the bits.
        let doubled = |inverse: u32| inverse.wrapping_mul(2u32.wrapping_sub(factor.wrapping_mul(inverse)));
        let step = doubled(doubled(factor));
        (step.wrapping_mul(first.wrapping_neg()), step)
    }
}
const _: () = assert!(SEAT_BITS <= 12);

/// A real server that has a weight above 0.
#[derive(Debug, Clone, Copy)]
struct Entrant {
    hash: ServerHash,
    weight: f32,
    /// In the list.
    place: u32,
}

/// The real servers of one list, as flows without a record choose among them.
#[derive(Debug)]
pub struct Entrants {
    /// Those that weigh more than most do; or all, of a short list.
    few: Box<[Entrant]>,
    /// All others, in groups of about one weight, the heaviest first.
    many: Box<[Peers]>,
}

impl Entrants {
    /// Of a list with its weights.
    pub fn new(list: impl Iterator<Item = (ServerHash, u16)>) -> Self {
        let mut by_weight: [Vec<Entrant>; 16] = Default::default();
        for (place, (hash, weight)) in list.enumerate() {
            if let Some(magnitude) = weight.checked_ilog2() {
                let entrant = Entrant { hash, weight: f32::from(weight), place: place as u32 };
                by_weight[magnitude as usize].push(entrant);
            }
        }
        let (mut few, mut many) = (Vec::new(), Vec::<Vec<Entrant>>::new());
        // All that weigh as much or more; and those of them that are neither here nor there yet.
        let (mut total, mut left) = (0.0, Vec::new());
        for entrants in by_weight.into_iter().rev() {
            total += entrants.iter().map(|entrant| entrant.weight).sum::<f32>();
            if is_worth_seats(&entrants, total) {
                few.append(&mut left);
                many.push(entrants);
            } else {
                left.extend(entrants);
                if is_worth_seats(&left, total) {
                    many.push(std::mem::take(&mut left));
                }
            }
        }
        // Whom they join is looked at with the heavier ones' weight in mind anyway.
        many.last_mut().unwrap_or(&mut few).append(&mut left);
        Self { few: few.into(), many: many.into_iter().map(Peers::new).collect() }
    }

    /// The place of the real server that a flow goes to. `None`: no weight is above 0.
    #[inline]
    pub fn pick(&self, flow: FlowHash) -> Option<usize> {
        self.least(flow).place.map(|place| place as usize)
    }

    #[inline]
    fn least(&self, flow: FlowHash) -> Least {
        let mut least = Least::nobody();
        least.walk(flow, &self.few);
        self.many.iter().for_each(|peers| peers.look(flow, &mut least));
        least
    }
}

/// Whether fewer are gone by seats than in a walk, where those of a list that weigh more, and these, have this total of weights: the
/// least number is about its inverse.
fn is_worth_seats(entrants: &[Entrant], total: f32) -> bool {
    let seats = (LAPS * SEATS) as f32 * most(entrants) / total;
    entrants.len() > WALKED_MAX && seats < SEATS_PER_WALKED * entrants.len() as f32
}

fn most(entrants: &[Entrant]) -> f32 {
    entrants.iter().fold(0.0, |most, entrant| entrant.weight.max(most))
}

/// Real servers that are looked at in the order of their seats.
#[derive(Debug)]
struct Peers {
    /// The greatest weight among them.
    most: f32,
    /// By seat.
    entrants: Box<[Entrant]>,
    /// Where those of each seat begin, and behind the last.
    begins: Box<[u32; SEATS as usize + 1]>,
}

impl Peers {
    fn new(mut entrants: Vec<Entrant>) -> Self {
        entrants.sort_unstable_by_key(|entrant| entrant.hash.seat());
        let begin = |seat| entrants.partition_point(|entrant| entrant.hash.seat() < seat) as u32;
        let begins = Box::new(std::array::from_fn(begin));
        Self { most: most(&entrants), begins, entrants: entrants.into() }
    }

    /// Looks at all who may draw the least number.
    fn look(&self, flow: FlowHash, least: &mut Least) {
        // Beyond these a walk is shorter.
        let worth = SEATS.min((SEATS_PER_WALKED * self.entrants.len() as f32) as u32);
        let mut end = worth.min(least.ranks(self.most));
        let (mut seat, step) = flow.order().seats();
        let mut rank = 0;
        while rank < end {
            #[cfg(test)]
            {
                least.looks += 1;
            }
            let its = seat as usize % SEATS as usize;
            let (from, to) = (self.begins[its], self.begins[its + 1]);
            if from != to {
                for entrant in self.entrants.get(from as usize..to as usize).unwrap_or_default() {
                    let mixed = flow.mixed(entrant.hash);
                    if mixed >> (64 - LAP_BITS) == 0 {
                        least.hear(draw(mixed, rank << FINE_BITS), entrant);
                        end = worth.min(least.ranks(self.most));
                    }
                }
            }
            seat = seat.wrapping_add(step);
            rank += 1;
        }
        if least.ranks(self.most) > worth {
            least.walk(flow, &self.entrants);
        }
    }
}

/// The least number so far.
struct Least {
    number: f32,
    /// The draw that it takes to come below that with a weight of 1, and what rounding may have added.
    limit: f32,
    /// Of two that drew the same number, the one with the lesser hash.
    hash: ServerHash,
    place: Option<u32>,
    /// Seats and real servers that were looked at.
    #[cfg(test)]
    looks: usize,
}

impl Least {
    fn nobody() -> Self {
        Self {
            number: f32::INFINITY,
            limit: f32::MAX,
            hash: ServerHash(0),
            place: None,
            #[cfg(test)]
            looks: 0,
        }
    }

    #[inline]
    fn walk(&mut self, flow: FlowHash, entrants: &[Entrant]) {
        let order = flow.order();
        for entrant in entrants {
            self.hear(draw(flow.mixed(entrant.hash), order.rank(entrant.hash)), entrant);
        }
    }

    /// A real server has drawn.
    #[inline]
    fn hear(&mut self, draw: f32, entrant: &Entrant) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        // The number is no less than what it is made of: most need no closer look.
        if draw < self.limit * entrant.weight {
            let number = exponential(draw * (1.0 / (1u32 << DRAW_BITS) as f32)) / entrant.weight;
            if number < self.number || number == self.number && entrant.hash < self.hash {
                self.number = number;
                self.limit = number * (1.0001 * (1u32 << DRAW_BITS) as f32);
                self.hash = entrant.hash;
                self.place = Some(entrant.place);
            }
        }
    }

    /// How many ranks there are with which somebody of at most this weight can draw as little. Those of the second lap, and the
    /// others, come after the first [`SEATS`].
    #[inline]
    fn ranks(&self, weight: f32) -> u32 {
        ((self.limit * weight) as u32 >> FINE_BITS).saturating_add(1)
    }
}

/// What a flow draws before the weight counts, times 2^23: an even number above 0 and below that.
#[inline]
fn draw(mixed: u64, rank: u32) -> f32 {
    let bits = (mixed >> (64 - DRAW_BITS)) as u32 & !RANK | rank;
    // 23 bits and a half: exact, and so is what is missing to the whole.
    bits as f32 + 0.5
}

/// An even number between 0 and 1 as one that is distributed exponentially: `-ln(1 - even)`, no less than `even`. Of
/// operations that are the same to the bit on every machine.
fn exponential(even: f32) -> f32 {
    const LN_2: f32 = std::f32::consts::LN_2;
    // As 2^-halvings times a mantissa between 3/4 and 3/2.
    let bits = (1.0 - even).to_bits();
    let halvings = 0.75f32.to_bits().wrapping_sub(bits).wrapping_add((1 << 23) - 1) as i32 >> 23;
    let mantissa = f32::from_bits(bits.wrapping_add((halvings as u32) << 23));
    // ln is twice the area tangent of this.
    let x = (1.0 - mantissa) / (1.0 + mantissa);
    let square = x * x;
    halvings as f32 * LN_2 + 2.0 * x * (1.0 + square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0))))
}

/// The 128-bit product folded to 64 bits: each bit of the result depends on all bits of both.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
