//! A memory that is damaged, cut, or lies: it is refused, or what is taken over can be, and is counted right.

mod recorded;

use std::fs::File;
use std::os::unix::fs::FileExt;

use weir_config::model::Persistence;

use super::*;
use crate::director::tests::ipv6::{both, segment4, segment6};

const LINE: usize = 64;
const SHAPE: Shape = Shape { workers: 2, capacity: 1_024, templates: 64 };
/// Octets of the header.
const HEADER: usize = 6 * LINE;

/// What a process has left: the lines of its book that say something, and its tables.
struct Dump {
    config: Config,
    book: Vec<(usize, [u8; LINE])>,
    tables: Vec<u8>,
    now: Now,
}

fn bytes(file: &OwnedFd, octets: usize) -> Vec<u8> {
    let mut bytes = vec![0; octets];
    let file = File::from(file.try_clone().expect("a descriptor"));
    file.read_exact_at(&mut bytes, 0).expect("as many");
    bytes
}

fn lasting() -> Config {
    let mut config = both("wlc", "");
    for (service, netmask) in config.virtual_servers.iter_mut().zip([32, 128]) {
        service.persistence = Some(Persistence { timeout_secs: 3_000, netmask, engine: None });
    }
    config
}

impl Dump {
    fn new() -> Self {
        Self::of(lasting())
    }

    fn of(config: Config) -> Self {
        let mut process = Process::start(&config, SHAPE, None, Now::default());
        for number in 0..60 {
            let (client, port) = (number % 12, 1_000 + u16::from(number));
            for flags in [SYN, ACK] {
                process.lab.send_to(usize::from(number) % 2, segment4(client, port, flags));
                process.lab.send_to(usize::from(number) % 2, segment6(client, port, flags));
            }
        }
        let octets = process.files.each_ref().map(KeptMemory::octets);
        let (files, now) = process.end();
        let book = bytes(&files[0], octets[0]);
        let lines = book.chunks_exact(LINE).enumerate().filter(|(_, line)| line.iter().any(|it| *it != 0));
        let lines = lines.map(|(number, line)| (number, line.try_into().expect("a line")));
        Self { config, book: lines.collect(), tables: bytes(&files[1], octets[1]), now }
    }

    /// A memory with this in it, as far as there is room.
    fn memory(&self, octets: [usize; 2]) -> [KeptMemory; 2] {
        let files =
            octets.map(|octets| KeptMemory::create("weir-test", octets, Pages::Sparse).expect("memory"));
        let open =
            |memory: &KeptMemory| File::from(memory.as_fd().try_clone_to_owned().expect("a descriptor"));
        let [book, tables] = [open(&files[0]), open(&files[1])];
        for (number, line) in self.book.iter().filter(|(number, _)| (number + 1) * LINE <= octets[0]) {
            book.write_all_at(line, (number * LINE) as u64).expect("room");
        }
        let room = octets[1].min(self.tables.len());
        tables.write_all_at(&self.tables[..room], 0).expect("room");
        files
    }

    /// What comes of it after `damage` to the book and the tables. All of it holds together, whatever it is.
    fn taken_over(&self, damage: impl FnOnce(&File, &File)) -> Result<Process, Refusal> {
        let files = self.memory([BOOK_LINES * LINE, self.tables.len()]);
        let files = files.each_ref().map(|file| file.as_fd().try_clone_to_owned().expect("a descriptor"));
        let [book, tables] = files.each_ref().map(|file| File::from(file.try_clone().expect("a descriptor")));
        damage(&book, &tables);
        let (memory, standing) = by_and_by(&self.config, opened(&self.config, files)?);
        let process = Process::of(&self.config, (memory, &standing), SHAPE, self.now);
        if !process.is_taking_over() {
            process.assert_holds_together();
        }
        Ok(process)
    }
}

impl Process {
    fn assert_holds_together(&self) {
        let lab = &self.lab;
        lab.assert_counts_equal_a_recount();
        lab.assert_templates_can_end();
        for director in &lab.directors {
            let table = &director.table;
            let view = table.view();
            assert_eq!(table.iter().count(), table.len());
            for record in table.iter() {
                let key = record.lookup_key();
                let (_, found) = table.find(table.hash(key.hash_input()), key).expect("each is found");
                assert_eq!(found, record);
                let service = lab.snapshot.service(lab.snapshot.server(record.server()).service);
                let service = service.expect("a virtual server of the file");
                assert_eq!(service.protocol, record.protocol());
                assert!(service.port == record.port() || record.is_helped());
                assert_eq!(
                    Some(service.address),
                    lab.snapshot
                        .vips
                        .own()
                        .find(|(number, _)| *number == record.vip())
                        .map(|(_, vip)| lab.snapshot.ip(vip))
                );
                let client = view.client(record).expect("a client");
                assert_eq!(client.is_ipv6(), service.address.is_ipv6());
            }
        }
        let hang = lab.directors.iter().flat_map(|it| it.table.iter()).filter(|it| it.is_templated()).count();
        assert_eq!(lab.hanging().iter().sum::<u32>() as usize, hang);
        for (_, template) in lab.directors[0].templates.listed() {
            assert_eq!(lab.snapshot.server(template.server()).service, template.whose().service);
        }
    }

    fn connections(&self) -> usize {
        self.lab.directors.iter().map(|director| director.table.len()).sum()
    }
}

fn flip(file: &File, at: usize, bits: u8) {
    let mut octet = [0];
    file.read_exact_at(&mut octet, at as u64).expect("an octet");
    file.write_all_at(&[octet[0] ^ bits], at as u64).expect("room");
}

#[test]
fn every_octet_of_the_header_may_be_another_one() {
    let dump = Dump::new();
    let whole = dump.taken_over(|_, _| {}).expect("it is whole");
    assert_eq!((whole.connections(), whole.lab.hanging().len()), (120, 24));
    let mut refused = 0;
    for at in 0..HEADER {
        match dump.taken_over(|book, _| flip(book, at, 1 << (at % 8))) {
            Err(_) => refused += 1,
            Ok(process) => {
                // Of the clock there are two, of the distribution none need be there; and how many numbers there are.
                assert!(at >= 2 * LINE + 8, "octet {at}");
                let says_how_many = (2 * LINE + 8..2 * LINE + 24).contains(&at);
                assert!(says_how_many || process.connections() == 120, "octet {at}");
            }
        }
    }
    assert!(refused >= 2 * LINE + 8, "{refused}");
    // And the line in front of the tables.
    for at in 0..LINE {
        assert!(dump.taken_over(|_, tables| flip(tables, at, 1)).is_err(), "octet {at}");
    }
}

#[test]
fn what_is_cut_is_refused() {
    let dump = Dump::new();
    let whole = [BOOK_LINES * LINE, dump.tables.len()];
    for octets in [
        [1, whole[1]],
        [LINE * 16, whole[1]],
        [whole[0] - 4_096, whole[1]],
        [whole[0], 1],
        [whole[0], whole[1] / 2],
    ] {
        let files = dump.memory(octets).map(|file| file.as_fd().try_clone_to_owned().expect("a descriptor"));
        assert!(opened(&dump.config, files).is_err(), "{octets:?}");
    }
}

#[test]
fn any_damage_leaves_connections_of_the_file_with_right_counts_or_none() {
    damage(&Dump::new());
}

#[test]
fn so_it_does_while_they_are_taken_over() {
    let mut config = file(0, SHAPE.capacity).0;
    config.connections.ipv6_clients = Some(64);
    damage(&Dump::of(config));
}

fn damage(dump: &Dump) {
    let said: Vec<usize> = dump.book.iter().map(|(number, _)| number * LINE).collect();
    bolero::check!().with_type::<Vec<(u32, u8, u64)>>().with_iterations(200).for_each(|damages| {
        let damage = |book: &File, tables: &File| {
            for &(place, how, word) in damages {
                let place = place as usize;
                let (file, at) = match how & 3 {
                    0 => (book, said[place % said.len()] + place / 7 % LINE),
                    _ => (tables, place % dump.tables.len()),
                };
                match how >> 2 & 3 {
                    0 => flip(file, at, 1 << (word % 8)),
                    1 => flip(file, at, word as u8),
                    2 => file.write_all_at(&word.to_le_bytes(), (at & !7) as u64).expect("room"),
                    // A piece of another place.
                    _ => {
                        let from = (word as usize % (dump.tables.len() - LINE)) & !15;
                        let piece = &dump.tables[from..][..LINE];
                        file.write_all_at(piece, (at & !(LINE - 1)) as u64).expect("room");
                    }
                }
            }
        };
        let Ok(mut process) = dump.taken_over(damage) else { return };
        // It works on.
        for number in 0..12 {
            process.lab.send_to(0, segment4(number, 1_000 + u16::from(number), ACK));
            process.lab.send_to(1, segment6(number, 1_000 + u16::from(number), ACK));
            process.lab.send_to(1, segment6(number, 2_000, SYN));
            process.lab.send_to(0, segment4(number, 2_000, SYN));
        }
        process.lab.pass_millis(1_000);
        if process.is_taking_over() {
            process.take_over_all();
            process.assert_holds_together();
        }
        process.lab.assert_counts_equal_a_recount();
        process.lab.assert_templates_can_end();
    });
}
