//! Receive side scaling in software: which queue a device with a known key and table gives a packet to.
//!
//! Devices hash addresses and ports with Toeplitz's function: bit `i` of the input, if set, adds (exclusive or) bits
//! `i` to `i + 31` of the key. Over any one key it is linear: the hash of `a ^ b` is the hash of `a` ^ the hash of `b`.

use crate::port::RssState;

/// The Toeplitz hash of `input` (at most `key.len() - 4` octets; what is beyond counts with zeros as key).
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let octet = |at: usize| key.get(at).copied().unwrap_or(0);
    let mut window = u32::from_be_bytes([octet(0), octet(1), octet(2), octet(3)]);
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate() {
        let next = octet(at + 4);
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

/// What devices hash of a TCP or UDP packet over IPv4: source and destination address, source and destination port.
pub fn input_ipv4([source, destination]: [u32; 2], [source_port, destination_port]: [u16; 2]) -> [u8; 12] {
    let mut input = [0; 12];
    input[..4].copy_from_slice(&source.to_be_bytes());
    input[4..8].copy_from_slice(&destination.to_be_bytes());
    input[8..10].copy_from_slice(&source_port.to_be_bytes());
    input[10..].copy_from_slice(&destination_port.to_be_bytes());
    input
}

impl RssState {
    /// The queue for a packet with this hash input; `None` if the device does not tell its table.
    pub fn queue(&self, input: &[u8]) -> Option<u16> {
        let hash = toeplitz(&self.key, input) as usize;
        self.reta.get(hash.checked_rem(self.reta.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use dpdk_sys as sys;

    use super::*;
    use crate::port::RssTypes;

    /// The key of Microsoft's "Verifying the RSS Hash Calculation".
    const MICROSOFT: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn address(text: &str) -> u32 {
        text.parse::<std::net::Ipv4Addr>().unwrap().into()
    }

    #[test]
    fn the_hash_is_that_of_the_published_examples() {
        for (destination, destination_port, source, source_port, addresses, ports) in [
            ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e_8fc2_u32, 0x51cc_c178_u32),
            ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718_262a, 0xc626_b0ea),
            ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0_a5de, 0x5c2b_394a),
            ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x8298_9176, 0xafc7_327f),
            ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d18_09c5, 0x10e8_28a2),
        ] {
            let input = input_ipv4([address(source), address(destination)], [source_port, destination_port]);
            assert_eq!(toeplitz(&MICROSOFT, &input[..8]), addresses, "{source}");
            assert_eq!(toeplitz(&MICROSOFT, &input), ports, "{source}");
        }
    }

    #[test]
    fn the_hash_is_that_of_dpdk() {
        // A generator of Marsaglia's is random enough for keys and tuples.
        let mut state = 0x2545_f491_u32;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for _ in 0..1_000 {
            let key: Vec<u8> = (0..40).map(|_| random() as u8).collect();
            // IPv4 and IPv6 with ports are 3 and 9 words.
            for words in [2, 3, 8, 9] {
                let mut tuple: Vec<u32> = (0..words).map(|_| random()).collect();
                let input: Vec<u8> = tuple.iter().flat_map(|word| word.to_be_bytes()).collect();
                // SAFETY: the words and their number agree; the key is 4 octets longer than the longest tuple.
                let theirs = unsafe { sys::weir_softrss(tuple.as_mut_ptr(), words, key.as_ptr()) };
                assert_eq!(toeplitz(&key, &input), theirs);
            }
        }
    }

    #[test]
    fn the_queue_is_looked_up_by_the_low_bits() {
        let types = RssTypes { ip: true, tcp: true, udp: true };
        let mut state = RssState { key: MICROSOFT.to_vec(), types, reta: (0..128).collect() };
        let input = input_ipv4([address("66.9.149.187"), address("161.142.100.80")], [2794, 1766]);
        assert_eq!(state.queue(&input), Some(0x51cc_c178_u32 as u16 & 127));
        state.reta.clear();
        assert_eq!(state.queue(&input), None);
    }
}
