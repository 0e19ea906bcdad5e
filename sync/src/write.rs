//! Writes datagrams.

use std::net::{IpAddr, SocketAddr};

use super::{
    Entry, Flags, HEADER, OPTION_ENGINE_DATA, OPTION_ENGINE_NAME, OPTION_SEQUENCES, RECORD_MAX, TYPE_IPV6,
    Version,
};

/// A datagram that is being filled.
#[derive(Debug)]
pub struct Writer {
    version: Version,
    id: u8,
    limit: usize,
    records: u8,
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty one of `id`, that takes no more than so many octets.
    pub fn new(version: Version, id: u8, limit: usize) -> Self {
        let limit = limit.min(usize::from(u16::MAX));
        Self { version, id, limit, records: 0, bytes: vec![0; HEADER[version as usize]] }
    }

    /// Puts in an entry. False: it has no room, or no place in a datagram of this version, as IPv6 in one of version 0.
    pub fn push(&mut self, entry: &Entry<'_>) -> bool {
        let before = self.bytes.len();
        let is_written = self.records < u8::MAX
            && match self.version {
                Version::V0 => self.put_0(entry),
                Version::V1 => self.put_1(entry),
            }
            && self.bytes.len() <= self.limit;
        match is_written {
            true => self.records += 1,
            false => self.bytes.truncate(before),
        }
        is_written
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The datagram, with its header. Begins another one.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; HEADER[self.version as usize]]);
        let records = std::mem::take(&mut self.records);
        let [high, low] = (bytes.len() as u16).to_be_bytes();
        let header = match self.version {
            Version::V0 => [records, self.id, high, low, 0, 0, 0, 0],
            Version::V1 => [0, self.id, high, low, records, 1, 0, 0],
        };
        for (place, octet) in bytes.iter_mut().zip(header).take(HEADER[self.version as usize]) {
            *place = octet;
        }
        bytes
    }

    fn put_0(&mut self, entry: &Entry<'_>) -> bool {
        let sockets = [entry.client, entry.virtual_server, entry.real_server];
        let has_sequences = entry.flags.0 & Flags::SEQUENCES != 0;
        if !sockets.iter().all(SocketAddr::is_ipv4) || has_sequences != entry.sequences.is_some() {
            return false;
        }
        self.bytes.extend([0, entry.protocol]);
        sockets.iter().for_each(|socket| self.put(&socket.port().to_be_bytes()));
        sockets.iter().for_each(|socket| self.put_address(socket.ip()));
        self.put(&(entry.flags.0 as u16).to_be_bytes());
        self.put(&entry.state.to_be_bytes());
        self.put_sequences(entry);
        true
    }

    fn put_1(&mut self, entry: &Entry<'_>) -> bool {
        let sockets = [entry.client, entry.virtual_server, entry.real_server];
        let is_ipv6 = entry.client.is_ipv6();
        if !sockets.iter().all(|socket| socket.is_ipv6() == is_ipv6) {
            return false;
        }
        let begin = self.bytes.len();
        self.put(&[if is_ipv6 { TYPE_IPV6 } else { 0 }, entry.protocol, 0, 0]);
        self.put(&entry.flags.0.to_be_bytes());
        self.put(&entry.state.to_be_bytes());
        sockets.iter().for_each(|socket| self.put(&socket.port().to_be_bytes()));
        self.put(&entry.mark.to_be_bytes());
        self.put(&entry.timeout_secs.to_be_bytes());
        sockets.iter().for_each(|socket| self.put_address(socket.ip()));
        if entry.sequences.is_some() {
            self.put(&[OPTION_SEQUENCES, super::SEQUENCES as u8]);
            self.put_sequences(entry);
        }
        if let Some(engine) = entry.engine
            && !(self.put_text(OPTION_ENGINE_DATA, engine.value)
                && self.put_text(OPTION_ENGINE_NAME, engine.name))
        {
            return false;
        }
        let length = self.bytes.len() - begin;
        let Some(place) = self.bytes.get_mut(begin + 2..begin + 4).filter(|_| length <= RECORD_MAX) else {
            return false;
        };
        place.copy_from_slice(&(length as u16).to_be_bytes());
        self.bytes.resize(begin + length.next_multiple_of(4), 0);
        true
    }

    fn put(&mut self, octets: &[u8]) {
        self.bytes.extend_from_slice(octets);
    }

    fn put_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        }
    }

    fn put_sequences(&mut self, entry: &Entry<'_>) {
        let words = entry.sequences.iter().flat_map(|sequences| sequences.words());
        words.for_each(|word| self.put(&word.to_be_bytes()));
    }

    /// False: nothing has no place there, nor has what is too long.
    fn put_text(&mut self, kind: u8, octets: &[u8]) -> bool {
        let Some(length) = u8::try_from(octets.len()).ok().filter(|length| *length != 0) else {
            return false;
        };
        self.put(&[kind, length]);
        self.put(octets);
        true
    }
}
