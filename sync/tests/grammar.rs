//! Datagrams by grammar: what is written is read as the same; and whatever comes in is read or refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_sync::{Datagram, Engine, Entry, Flags, Refused, Sequence, Sequences, Version, Writer};

/// What an entry is made of: family and options, sockets, flags and state, mark and timeout, numbers, texts.
type Seed = (u8, ([u8; 16], u16), ([u8; 16], u16), (u32, u16), (u32, u32), [u32; 3], (Vec<u8>, Vec<u8>));

fn entry((kind, client, server, (flags, state), (mark, timeout_secs), numbers, texts): &Seed) -> Entry<'_> {
    let socket = |(octets, port): &([u8; 16], u16)| {
        let [a, b, c, d, ..] = *octets;
        let address: IpAddr = match kind & 1 {
            0 => Ipv4Addr::new(a, b, c, d).into(),
            _ => Ipv6Addr::from(*octets).into(),
        };
        SocketAddr::new(address, *port)
    };
    let [first, delta, previous_delta] = *numbers;
    let sequence = Sequence { first, delta, previous_delta };
    let sequences = (kind & 2 != 0).then_some(Sequences { input: sequence, output: Sequence::default() });
    let flags = match sequences {
        Some(_) => flags | Flags::SEQUENCES,
        None => flags & !Flags::SEQUENCES,
    };
    Entry {
        protocol: kind >> 3,
        client: socket(client),
        virtual_server: socket(server),
        real_server: socket(client),
        flags: Flags(flags),
        state: *state,
        mark: *mark,
        timeout_secs: *timeout_secs,
        sequences,
        engine: (kind & 4 != 0).then_some(Engine { name: &texts.0, value: &texts.1 }),
    }
}

/// As version 0 has it.
fn plain(entry: Entry<'_>) -> Entry<'_> {
    let flags = Flags(entry.flags.0 & 0xffff);
    Entry { flags, mark: 0, timeout_secs: 0, engine: None, ..entry }
}

#[test]
fn what_is_written_is_read_as_the_same_and_is_no_longer_than_it_may_be() {
    bolero::check!().with_type::<(bool, u8, u16, Vec<Seed>)>().for_each(|(is_new, id, limit, seeds)| {
        let version = if *is_new { Version::V1 } else { Version::V0 };
        let limit = usize::from(*limit % 2_048).max(64);
        let mut writer = Writer::new(version, *id, limit);
        let entries = seeds.iter().map(entry).map(|it| if *is_new { it } else { plain(it) });
        let taken: Vec<Entry<'_>> = entries.filter(|entry| writer.push(entry)).collect();
        assert_eq!(writer.is_empty(), taken.is_empty());
        let bytes = writer.take();
        assert!(bytes.len() <= limit);
        // Without a record the two look alike.
        let datagram = Datagram::read(&bytes).unwrap();
        assert_eq!(datagram.of_id(*id).map(|it| it.id), Ok(*id));
        if !taken.is_empty() {
            assert_eq!(datagram.version, version);
            assert_eq!(datagram.entries().collect::<Result<Vec<_>, _>>(), Ok(taken));
        }
        assert!(writer.is_empty());
    });
}

#[test]
fn what_is_changed_anywhere_is_read_or_refused() {
    bolero::check!().with_type::<(bool, Vec<Seed>, Vec<(u16, u8)>, u8)>().for_each(
        |(is_new, seeds, changes, cut)| {
            let version = if *is_new { Version::V1 } else { Version::V0 };
            let mut writer = Writer::new(version, 7, 1_472);
            seeds.iter().map(entry).for_each(|entry| _ = writer.push(&entry));
            let mut bytes = writer.take();
            bytes.truncate(bytes.len().saturating_sub(usize::from(*cut % 8)));
            for (at, octet) in changes {
                let end = bytes.len();
                if let Some(place) = bytes.get_mut(usize::from(*at) % end.max(1)) {
                    *place = *octet;
                }
            }
            look_at(&bytes);
            // The length is right, whatever else is not.
            let length = (bytes.len() as u16).to_be_bytes();
            if let Some(place) = bytes.get_mut(2..4) {
                place.copy_from_slice(&length);
            }
            look_at(&bytes);
        },
    );
}

#[test]
fn any_octets_are_read_or_refused() {
    bolero::check!().for_each(look_at);
}

fn look_at(bytes: &[u8]) {
    let Ok(datagram) = Datagram::read(bytes) else { return };
    let entries: Vec<_> = datagram.entries().collect();
    assert!(entries.len() <= 255);
    assert!(entries.iter().rev().skip(1).all(Result::is_ok), "nothing stands behind what is refused");
}

/// A record of version 1, of IPv4, with these options behind it.
fn with_options(options: &[u8]) -> Vec<u8> {
    let entry =
        entry(&(0, Default::default(), Default::default(), (0, 1), (0, 900), [0; 3], Default::default()))
            .flags;
    let mut writer = Writer::new(Version::V1, 7, 1_472);
    let socket = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 80);
    assert!(writer.push(&Entry {
        protocol: 6,
        client: socket,
        virtual_server: socket,
        real_server: socket,
        flags: entry,
        state: 1,
        mark: 0,
        timeout_secs: 900,
        sequences: None,
        engine: None,
    }));
    let mut bytes = writer.take();
    bytes.extend(options);
    let [whole, record] = [bytes.len(), bytes.len() - 8].map(|length| (length as u16).to_be_bytes());
    bytes[2..4].copy_from_slice(&whole);
    bytes[10..12].copy_from_slice(&record);
    bytes
}

#[test]
fn each_fault_has_its_reason() {
    let first = |bytes: &[u8]| {
        let datagram = Datagram::read(bytes).and_then(|it| it.of_id(7))?;
        datagram.entries().next().unwrap().map(drop)
    };
    let right = with_options(&[]);
    assert_eq!(first(&right), Ok(()));
    let changed = |at: usize, octet: u8| {
        let mut bytes = right.clone();
        bytes[at] = octet;
        bytes
    };
    assert_eq!(first(&right[..3]), Err(Refused::Short));
    assert_eq!(first(&right[..43]), Err(Refused::Length));
    assert_eq!(first(&changed(1, 8)), Err(Refused::ForeignId));
    // A record of IPv6 is longer, a shorter one is none, and one of another version is not known.
    assert_eq!(first(&changed(8, 1)), Err(Refused::Record));
    assert_eq!(first(&changed(11, 35)), Err(Refused::Record));
    assert_eq!(first(&changed(11, 37)), Err(Refused::Record));
    assert_eq!(first(&changed(10, 0x10)), Err(Refused::RecordVersion));
    let absurd = changed(4, 255);
    let read: Vec<_> = Datagram::read(&absurd).unwrap().entries().map(|it| it.map(drop)).collect();
    assert_eq!(read, [Ok(()), Err(Refused::Record)], "the first one holds");
    for (options, refused) in [
        (&[2][..], Refused::Option),
        (&[2, 0], Refused::Option),
        (&[2, 3, b'a', b'b'], Refused::Option),
        (&[1, 4, 0, 0, 0, 0], Refused::Option),
        (&[2, 1, b'a', 2, 1, b'b'], Refused::Option),
        (&[9, 1, 0], Refused::UnknownOption),
    ] {
        assert_eq!(first(&with_options(options)), Err(refused), "{options:?}");
    }
    // One that may be passed over is, and a name without a value names nothing.
    assert_eq!(first(&with_options(&[0x49, 1, 0])), Ok(()));
    assert_eq!(first(&with_options(&[3, 3, b's', b'i', b'p'])), Ok(()));
    let mut names: Vec<&str> = Refused::ALL.iter().map(|reason| reason.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Refused::ALL.len());
}
