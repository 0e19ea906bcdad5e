//! Reads datagrams: whatever comes in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Engine, Entry, Flags, HEADER, OPTION_ENGINE_DATA, OPTION_ENGINE_NAME, OPTION_MAY_BE_SKIPPED,
    OPTION_SEQUENCES, RECORD_0, RECORD_MAX, RECORD_V4, RECORD_V6, SEQUENCES, Sequences, TYPE_IPV6, Version,
};

/// Why a datagram is refused, or what is left of it, or a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It is shorter than its header.
    Short,
    /// The length that it says is not its own.
    Length,
    /// It is of another sync id.
    ForeignId,
    /// A record goes past its end, or is shorter than such records are.
    Record,
    /// A record is of a version that there is not.
    RecordVersion,
    /// An option goes past the end of its record, or has another length than such options have.
    Option,
    /// An option that has to be known, and is not.
    UnknownOption,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Short,
        Self::Length,
        Self::ForeignId,
        Self::Record,
        Self::RecordVersion,
        Self::Option,
        Self::UnknownOption,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Length => "length",
            Self::ForeignId => "foreign_id",
            Self::Record => "record",
            Self::RecordVersion => "record_version",
            Self::Option => "option",
            Self::UnknownOption => "unknown_option",
        }
    }
}

/// A datagram whose header is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The protocol's version.
    pub version: Version,
    /// Who belongs together.
    pub id: u8,
    records: u8,
    /// What stands behind the header.
    body: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refused> {
        let Some(&[first, id, high, low]) = bytes.first_chunk::<4>() else { return Err(Refused::Short) };
        if usize::from(u16::from_be_bytes([high, low])) != bytes.len() {
            return Err(Refused::Length);
        }
        // As the kernel tells them: what version 1 has at its end no record of version 0 begins with, mostly.
        let (version, records) = match (first, bytes.get(4..HEADER[1])) {
            (0, Some(&[records, 1, 0, 0])) => (Version::V1, records),
            _ => (Version::V0, first),
        };
        let body = bytes.get(HEADER[version as usize]..).ok_or(Refused::Short)?;
        Ok(Self { version, id, records, body })
    }

    /// The same, unless it is of another sync id than this. 0: any will do.
    ///
    /// # Errors
    /// It is.
    pub fn of_id(self, id: u8) -> Result<Self, Refused> {
        if id == 0 || id == self.id { Ok(self) } else { Err(Refused::ForeignId) }
    }

    /// Its records. Behind one that is refused there is none more.
    pub fn entries(&self) -> Entries<'a> {
        Entries { version: self.version, left: self.records, rest: self.body }
    }
}

/// The records of a datagram.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    version: Version,
    left: u8,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = match self.version {
            Version::V0 => read_0(self.rest),
            Version::V1 => read_1(self.rest),
        };
        match read {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(refused) => {
                self.left = 0;
                Some(Err(refused))
            }
        }
    }
}

type Read<'a> = Result<(Entry<'a>, &'a [u8]), Refused>;

/// A record of version 0.
fn read_0(bytes: &[u8]) -> Read<'_> {
    let mut fields = Fields(bytes);
    let [_, protocol] = fields.take().ok_or(Refused::Record)?;
    let ports = fields.words_16().ok_or(Refused::Record)?;
    let addresses: [[u8; 4]; 3] = fields.addresses().ok_or(Refused::Record)?;
    let [flags, state] = fields.words_16().ok_or(Refused::Record)?;
    let flags = Flags(u32::from(flags));
    let sequences = match flags.0 & Flags::SEQUENCES {
        0 => None,
        _ => Some(fields.sequences().ok_or(Refused::Record)?),
    };
    debug_assert!(bytes.len() - fields.0.len() >= RECORD_0);
    let [client, virtual_server, real_server] = sockets(addresses.map(|it| Ipv4Addr::from(it).into()), ports);
    let entry = Entry {
        protocol,
        client,
        virtual_server,
        real_server,
        flags,
        state,
        mark: 0,
        timeout_secs: 0,
        sequences,
        engine: None,
    };
    Ok((entry, fields.0))
}

/// A record of version 1.
fn read_1(bytes: &[u8]) -> Read<'_> {
    let &[kind, protocol, high, low] = bytes.first_chunk::<4>().ok_or(Refused::Record)?;
    let word = usize::from(u16::from_be_bytes([high, low]));
    let (version, length) = (word >> 12, word & RECORD_MAX);
    let is_ipv6 = kind & TYPE_IPV6 != 0;
    let least = if is_ipv6 { RECORD_V6 } else { RECORD_V4 };
    let record = bytes.get(..length).filter(|record| record.len() >= least).ok_or(Refused::Record)?;
    if version != 0 {
        return Err(Refused::RecordVersion);
    }
    let mut fields = Fields(record.get(4..).ok_or(Refused::Record)?);
    let [flags] = fields.words_32().ok_or(Refused::Record)?;
    let [state, ports @ ..] = fields.words_16::<4>().ok_or(Refused::Record)?;
    let [mark, timeout_secs] = fields.words_32().ok_or(Refused::Record)?;
    let addresses = match is_ipv6 {
        true => fields.addresses().map(|it| it.map(|octets: [u8; 16]| Ipv6Addr::from(octets).into())),
        false => fields.addresses().map(|it| it.map(|octets: [u8; 4]| Ipv4Addr::from(octets).into())),
    };
    let [client, virtual_server, real_server] = sockets(addresses.ok_or(Refused::Record)?, ports);
    let (sequences, engine) = read_options(fields)?;
    let entry = Entry {
        protocol,
        client,
        virtual_server,
        real_server,
        flags: Flags(flags),
        state,
        mark,
        timeout_secs,
        sequences,
        engine,
    };
    // What fills up the last record may be left out.
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok((entry, rest))
}

fn read_options(mut fields: Fields<'_>) -> Result<(Option<Sequences>, Option<Engine<'_>>), Refused> {
    let (mut sequences, mut name, mut value) = (None, None, None);
    while !fields.0.is_empty() {
        let [kind, length] = fields.take().ok_or(Refused::Option)?;
        let mut option = Fields(fields.slice(usize::from(length)).ok_or(Refused::Option)?);
        let is_new = match kind & !OPTION_MAY_BE_SKIPPED {
            _ if length == 0 => false,
            OPTION_SEQUENCES if usize::from(length) != SEQUENCES => false,
            OPTION_SEQUENCES => {
                let read = option.sequences().ok_or(Refused::Option)?;
                sequences.replace(read).is_none()
            }
            OPTION_ENGINE_DATA => value.replace(option.0).is_none(),
            OPTION_ENGINE_NAME => name.replace(option.0).is_none(),
            _ if kind & OPTION_MAY_BE_SKIPPED != 0 => true,
            _ => return Err(Refused::UnknownOption),
        };
        if !is_new {
            return Err(Refused::Option);
        }
    }
    // The one without the other names nothing.
    let engine = name.zip(value).map(|(name, value)| Engine { name, value });
    Ok((sequences, engine))
}

fn sockets(addresses: [IpAddr; 3], [a, b, c]: [u16; 3]) -> [SocketAddr; 3] {
    let [client, virtual_server, real_server] = addresses;
    [SocketAddr::new(client, a), SocketAddr::new(virtual_server, b), SocketAddr::new(real_server, c)]
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn words_16<const N: usize>(&mut self) -> Option<[u16; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = u16::from_be_bytes(self.take()?);
        }
        Some(words)
    }

    fn words_32<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = u32::from_be_bytes(self.take()?);
        }
        Some(words)
    }

    fn addresses<const N: usize>(&mut self) -> Option<[[u8; N]; 3]> {
        Some([self.take()?, self.take()?, self.take()?])
    }

    fn sequences(&mut self) -> Option<Sequences> {
        self.words_32().map(Sequences::of_words)
    }
}
