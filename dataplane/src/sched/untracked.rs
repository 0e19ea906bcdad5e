//! Flows without a record: the real server that each goes to, by its two ends and the weights alone.
//!
//! Weighted rendezvous hashing. Each flow draws a number with each real server, exponentially distributed with the weight as
//! its rate, and goes where the number is least: so shares are in proportion to the weights. A draw depends on the flow, on
//! the real server and on its weight, and on nothing else. So when one weight changes, only flows of that real server move,
//! to or from it, as many as its share changes by; and when one leaves the list, the others keep what they have.
//!
//! What is hashed stands in the packet and in the file, and hashes have no secret: every worker picks the same, and so does
//! another director with the same file, or this one after a restart. Thresholds have no part in it: such flows are not
//! counted, and a flag that comes and goes would move them back and forth.
//!
//! The work is a walk through the list: some twenty instructions for each real server (`dr-full-16` and `dr-full-1000` of
//! `benches/instructions`).

use crate::address::Addr4;

/// Odd numbers without a pattern, of the digits of pi.
const MIX: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

/// The two ends of a flow as a number that is even over all its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// Of a client's packet: address and port from which, to which, and the IP protocol.
    pub fn new(source: (Addr4, u16), destination: (Addr4, u16), protocol: u8) -> Self {
        let end = |(address, port): (Addr4, u16)| u64::from(address.bits()) << 16 | u64::from(port);
        let source = fold(end(source) ^ MIX[0], MIX[1]);
        Self(fold(source ^ end(destination) ^ u64::from(protocol) << 48, MIX[2]))
    }

    /// What the flow draws with a real server before its weight counts: an even number above 0 and below 1.
    #[inline]
    fn draw(self, server: ServerHash) -> f32 {
        // 23 bits and a half: exact, and so is what is missing to 1.
        let bits = fold(self.0 ^ server.0, MIX[1]) >> 41;
        (bits as f32 + 0.5) * (1.0 / (1u32 << 23) as f32)
    }
}

/// A real server as a number that is even over all its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerHash(u64);

impl ServerHash {
    /// Of its address and port, as the file has them.
    pub fn new(address: Addr4, port: u16) -> Self {
        let name = u64::from(address.bits()) << 16 | u64::from(port);
        Self(fold(fold(name ^ MIX[2], MIX[0]) ^ name, MIX[1]))
    }
}

/// The place of the real server that a flow goes to, in a list of them with their weights. `None`: no weight is above 0.
pub fn pick(flow: FlowHash, servers: impl Iterator<Item = (ServerHash, u16)>) -> Option<usize> {
    let (mut least, mut limit) = (f32::INFINITY, f32::MAX);
    let mut picked = None;
    for (place, (server, weight)) in servers.enumerate() {
        let (draw, weight) = (flow.draw(server), f32::from(weight));
        // The number is no less than what it is made of: most need no closer look.
        if draw < limit * weight {
            let number = exponential(draw) / weight;
            if number < least {
                least = number;
                // What rounding may have added aside.
                limit = number * 1.0001;
                picked = Some(place);
            }
        }
    }
    picked
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
mod tests {
    use super::*;

    type List = Vec<(ServerHash, u16)>;

    fn server(number: u32) -> ServerHash {
        ServerHash::new(Addr4::new(10, 0, 0, 0).plus(number), 80)
    }

    fn list(weights: &[u16]) -> List {
        weights.iter().enumerate().map(|(number, &weight)| (server(number as u32), weight)).collect()
    }

    fn client(number: u32) -> FlowHash {
        let source = (Addr4::new(198, 18, 0, 0).plus(number / 50), 1_024 + (number % 50) as u16);
        FlowHash::new(source, (Addr4::new(192, 0, 2, 1), 80), 6)
    }

    /// Where so many flows go, by the real server's hash.
    fn picks(list: &List, flows: u32) -> Vec<Option<ServerHash>> {
        (0..flows).map(|flow| pick(client(flow), list.iter().copied()).map(|place| list[place].0)).collect()
    }

    #[test]
    fn the_number_is_that_of_the_logarithm() {
        for bits in (0..1 << 23).step_by(97).chain([0, 1, (1 << 23) - 1]) {
            let even = (bits as f32 + 0.5) * (1.0 / (1u32 << 23) as f32);
            let exact = -(-f64::from(even)).ln_1p();
            let number = exponential(even);
            assert!((f64::from(number) / exact - 1.0).abs() < 2e-6, "{even}: {number}, not {exact}");
            assert!(number * 1.0001 > even);
        }
    }

    #[test]
    fn shares_are_in_proportion_to_the_weights() {
        let hundreds: Vec<u16> = (0..100).map(|number| [100, 300][number % 2]).collect();
        for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[0, 5, 0, 15], &[1, 30_000, 65_535], &hundreds] {
            let flows = 200_000;
            let list = list(weights);
            let picks = picks(&list, flows);
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            for &(server, weight) in &list {
                let share = picks.iter().filter(|&&picked| picked == Some(server)).count() as f64;
                let expected = f64::from(flows) * f64::from(weight) / f64::from(total);
                // Five standard deviations, and half of a percent.
                let tolerance = 5.0 * expected.sqrt() + expected * 0.005;
                assert!((share - expected).abs() <= tolerance, "{weights:?}: {share}, not {expected}");
            }
        }
    }

    #[test]
    fn flows_of_one_clients_ports_and_of_neighbours_are_spread_as_well() {
        let list = list(&[1; 4]);
        let vip = (Addr4::new(192, 0, 2, 1), 80);
        for of in [&|n: u32| (Addr4::new(10, 9, 8, 7), n as u16), &|n: u32| {
            (Addr4::new(10, 9, 0, 0).plus(n), 40_000)
        }] as [&dyn Fn(u32) -> (Addr4, u16); 2]
        {
            let mut counts = [0u32; 4];
            for n in 0..40_000 {
                counts[pick(FlowHash::new(of(n), vip, 17), list.iter().copied()).expect("one")] += 1;
            }
            assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
        }
    }

    /// Whatever one real server's weight becomes, or if it leaves: only flows that it had or gets move. So many as its share
    /// changes by.
    #[test]
    fn only_flows_of_the_changed_real_server_move() {
        bolero::check!().with_type::<(Vec<u16>, u8, u16)>().for_each(|(weights, place, weight)| {
            let mut list: List = list(&weights[..weights.len().min(40)]);
            if list.is_empty() {
                return;
            }
            let place = usize::from(*place) % list.len();
            let (changed, former) = list[place];
            let before = picks(&list, 200);
            list[place].1 = *weight;
            let after = picks(&list, 200);
            for (before, after) in before.iter().zip(&after) {
                let is_its = if *weight < former { *before } else { *after } == Some(changed);
                assert!(before == after || is_its && *weight != former);
                assert!(*weight != 0 || *after != Some(changed));
            }
            list[place].1 = former;
            list.remove(place);
            for (before, after) in before.iter().zip(picks(&list, 200)) {
                assert!(*before == after || *before == Some(changed));
            }
        });
    }

    #[test]
    fn no_more_move_than_the_share_changes_by() {
        let (before, after) = (picks(&list(&[1, 1, 1]), 60_000), picks(&list(&[2, 1, 1]), 60_000));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        // From a third to a half.
        assert!((9_500..10_500).contains(&moved), "{moved}");
    }

    #[test]
    fn the_order_of_the_list_and_other_directors_make_no_difference() {
        let list = list(&[3, 1, 4, 1, 5, 9, 2, 6]);
        let backwards: List = list.iter().rev().copied().collect();
        let picked = picks(&list, 5_000);
        assert_eq!(picked, picks(&backwards, 5_000));
        // These numbers are those of every other director: they never change.
        let first: Vec<usize> =
            (0..12).map(|flow| pick(client(flow), list.iter().copied()).expect("one")).collect();
        assert_eq!(first, [7, 7, 5, 5, 7, 5, 5, 5, 5, 2, 1, 0]);
    }

    #[test]
    fn without_weight_nobody_is_picked() {
        assert_eq!(pick(client(1), list(&[]).into_iter()), None);
        assert_eq!(pick(client(1), list(&[0, 0]).into_iter()), None);
        assert_eq!(pick(client(1), list(&[0, 1, 0]).into_iter()), Some(1));
    }
}
