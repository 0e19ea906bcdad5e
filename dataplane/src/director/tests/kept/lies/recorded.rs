//! What releases have left, in `testdata/kept`, a file for each layout: weir goes on with what has its own, and refuses the others by their
//! number.
//!
//! A line of such a file is one of the book or of the tables, in hexadecimal digits, or something that is to be found in there. Who raises a
//! number of the layout records the next file with `WEIR_BLESS=1 cargo test -p weir-dataplane recorded`, and leaves those that there are. Who
//! changes what memory means and raises none fails here.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

/// Of each family.
const CONNECTIONS: u8 = 6;

/// What this weir leaves, and what is to be found in it.
fn recording() -> (Dump, Vec<String>) {
    let config = lasting();
    let mut process = Process::start(&config, SHAPE, None, Now::default());
    for number in 0..CONNECTIONS {
        let (client, port) = (number % 4, 1_000 + u16::from(number));
        for flags in [SYN, ACK] {
            process.lab.send_to(usize::from(number) % 2, segment4(client, port, flags));
            process.lab.send_to(usize::from(number) % 2, segment6(client, port, flags));
        }
    }
    let found = findings(&process);
    let octets = process.files.each_ref().map(KeptMemory::octets);
    let (files, now) = process.end();
    let [book, tables] = [bytes(&files[0], octets[0]), bytes(&files[1], octets[1])];
    (Dump { config, book: said(&book), tables, now }, found)
}

/// The lines that say something, with their numbers.
fn said(memory: &[u8]) -> Vec<(usize, [u8; LINE])> {
    let lines = memory.chunks_exact(LINE).enumerate().filter(|(_, line)| line.iter().any(|it| *it != 0));
    lines.map(|(number, line)| (number, line.try_into().expect("a line"))).collect()
}

/// Connections and templates, in words.
fn findings(process: &Process) -> Vec<String> {
    let lab = &process.lab;
    let server = |number| lab.snapshot.server(number).ip();
    let mut found = Vec::new();
    for (worker, director) in lab.directors.iter().enumerate() {
        let view = director.table.view();
        for record in director.table.iter() {
            let client = view.client(record).expect("a client");
            let own = lab.snapshot.vips.own().find(|(number, _)| *number == record.vip());
            let vip = own.map(|(_, vip)| lab.snapshot.ip(vip)).expect("a VIP");
            found.push(format!(
                "worker {worker}, {client} port {} to {vip} port {}, {}, state {}, templated {}",
                record.client_port(),
                record.port(),
                server(record.server()),
                record.state().0,
                record.is_templated(),
            ));
        }
    }
    let templates = lab.directors[0].templates.listed();
    found.extend(templates.map(|(address, it)| format!("template of {address}, {}", server(it.server()))));
    found.sort();
    found
}

impl Dump {
    /// The number that stands in it.
    fn layout(&self) -> u64 {
        u64::from_ne_bytes(self.book[0].1[8..16].try_into().expect("a word"))
    }

    /// As [`Dump::read`] has it.
    fn text(&self, found: &[String]) -> String {
        let mut text = format!("octets {}\n", self.tables.len());
        let lines = self.book.iter().map(|it| ("book", *it));
        for (what, (number, line)) in lines.chain(said(&self.tables).into_iter().map(|it| ("tables", it))) {
            let digits = line.iter().fold(String::new(), |mut digits, octet| {
                write!(digits, "{octet:02x}").expect("memory");
                digits
            });
            writeln!(text, "{what} {number} {digits}").expect("memory");
        }
        found.iter().for_each(|line| writeln!(text, "finds {line}").expect("memory"));
        text
    }

    fn read(text: &str, config: Config, now: Now) -> (Self, Vec<String>) {
        let mut dump = Self { config, book: Vec::new(), tables: Vec::new(), now };
        let mut found = Vec::new();
        let line = |rest: &str| {
            let (number, digits) = rest.split_once(' ').expect("a number and digits");
            let octet = |at: usize| u8::from_str_radix(&digits[2 * at..][..2], 16).expect("digits");
            (number.parse::<usize>().expect("a number"), std::array::from_fn::<u8, LINE, _>(octet))
        };
        for (what, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            match what {
                "octets" => dump.tables = vec![0; rest.parse().expect("a number")],
                "book" => dump.book.push(line(rest)),
                "tables" => {
                    let (number, octets) = line(rest);
                    dump.tables[number * LINE..][..LINE].copy_from_slice(&octets);
                }
                "finds" => found.push(rest.to_owned()),
                _ => panic!("{what} is nothing"),
            }
        }
        (dump, found)
    }
}

#[test]
fn what_releases_have_left_goes_on_or_is_refused_by_its_number() {
    let (own, found) = recording();
    let layout = own.layout();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kept");
    let place = folder.join(format!("layout-{}-{}.txt", layout >> 32, layout & u64::from(u32::MAX)));
    if std::env::var_os("WEIR_BLESS").is_some() && !place.exists() {
        fs::write(&place, own.text(&found)).expect("a file");
    }
    assert!(place.exists(), "{} is to be recorded: see this module", place.display());
    for file in fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a text");
        let (dump, expected) = Dump::read(&text, own.config.clone(), own.now);
        let came_of_it = dump.taken_over(|_, _| {}).map(|process| findings(&process));
        let wanted = match dump.layout() == layout {
            true => Ok(expected),
            false => Err(Refusal::Layout { found: dump.layout() }),
        };
        assert_eq!(came_of_it, wanted, "{}", path.display());
    }
}
