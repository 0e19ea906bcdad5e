//! Histories of connections, reloads and sudden ends, played against a model of who talks to whom.

mod calls;
mod ftp;
mod lasting;
mod lies;

use std::os::fd::{AsFd, OwnedFd};

use dpdk::{KeptMemory, Pages};

use super::*;
use crate::conn::record::Record;
use crate::kept::{
    Asked, BOOK_LINES, Book, Census, Clock, Header, Left, Machine, Opened, Refusal, Succession, lay_out,
};
use crate::snapshot::registry::Standing;

/// What changes from one process to the next.
#[derive(Clone, Copy)]
struct Shape {
    workers: usize,
    capacity: usize,
    /// Of each family.
    templates: usize,
}

/// A process: its workers, and the memory that it leaves.
struct Process {
    lab: Lab,
    book: Book,
    files: [KeptMemory; 2],
    shape: Shape,
}

impl Shape {
    fn of(number: u8) -> Self {
        Self {
            workers: 1 + usize::from(number & 3 == 0),
            capacity: 1_024 + usize::from(number & 1) * 1_024,
            templates: 64 + usize::from(number & 4 != 0) * 64,
        }
    }
}

const KEY: [u64; 2] = [0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15];

fn machine() -> Machine {
    Machine { boot: [1, 2], cycles: 1_000, hz: 1_000_000_000, boot_millis: 1 }
}

/// What workers share, and where it lies.
struct Memory {
    tables: Vec<Table>,
    templates: Templates,
    book: Book,
    files: [KeptMemory; 2],
    succession: Option<Arc<Succession>>,
}

fn fresh(shape: Shape) -> Memory {
    let header = Header {
        boot: [1, 2],
        session: 9,
        workers: shape.workers as u64,
        capacity: shape.capacity as u64,
        table_lines: Table::lines_for(shape.capacity) as u64,
        client_lines: Clients::lines_for(64) as u64,
        template_lines: [
            Templates::lines_for(shape.templates) as u64,
            Templates::lines_for_ipv6(shape.templates) as u64,
        ],
        key: KEY,
    };
    let memory = |octets| KeptMemory::create("weir-test", octets, Pages::Sparse).expect("memory");
    let mut files = [memory(BOOK_LINES * 64), memory(header.lines() as usize * 64)];
    let front = files[1].cut(1).expect("a line");
    let lines = files[0].cut(BOOK_LINES).expect("lines");
    let book = Book::begin(lines, &front[0], &header, &Clock::new(&machine()));
    let pieces = lay_out(&header, |lines| files[1].cut(lines)).expect("lines");
    let table = |(lines, clients)| Table::new(lines, shape.capacity, HashKey::new(KEY)).with_clients(clients);
    let (v4, v6) = pieces.templates;
    Memory {
        tables: pieces.tables.into_iter().map(table).collect(),
        templates: Templates::new(v4, v6, HashKey::new(KEY)),
        book,
        files,
        succession: None,
    }
}

/// What was left, as it is.
fn opened(config: &Config, files: [OwnedFd; 2]) -> Result<(Opened, [KeptMemory; 2]), Refusal> {
    let mut files = files.map(|file| KeptMemory::adopt(file).expect("kept memory"));
    Ok((Opened::of(&mut files, &machine(), config)?, files))
}

/// What was left, to be looked at while packets flow if that can be.
fn by_and_by(config: &Config, (opened, files): (Opened, [KeptMemory; 2])) -> (Memory, Standing) {
    let (left, succession) = opened.by_and_by(config);
    let Left { book, numbers, tables, templates, .. } = left;
    let standing = match succession {
        Some(_) => Standing::expected(&numbers, tables.len()),
        None => Standing::of(&tables, &templates, &numbers),
    };
    (Memory { tables, templates, book, files, succession }, standing)
}

impl Process {
    /// The next process after one that left `files`; `now` is when.
    fn start(config: &Config, shape: Shape, files: Option<[OwnedFd; 2]>, now: Now) -> Self {
        let (memory, standing) = match files {
            None => (fresh(shape), Standing::default()),
            Some(files) => {
                // The first one to try ends in the middle of taking over, or before it forwards anything.
                let again = files.each_ref().map(|file| file.try_clone().expect("a descriptor"));
                let (memory, standing) = Self::take_over(config, shape, again);
                if memory.succession.is_some() {
                    drop(Self::of(config, (memory, &standing), shape, now));
                }
                Self::take_over(config, shape, files)
            }
        };
        Self::of(config, (memory, &standing), shape, now)
    }

    /// With this memory.
    fn of(config: &Config, (memory, standing): (Memory, &Standing), shape: Shape, now: Now) -> Self {
        let Memory { tables, templates, book, files, succession } = memory;
        let mut registry = Registry::new(shape.workers, Options::default());
        registry.resume(config, standing);
        let snapshot = registry.snapshot(config, &[OWN], Progress::default()).expect("a valid configuration");
        let mut book = book;
        book.note(&snapshot);
        book.complete();
        if let Some(succession) = &succession {
            succession.begin(&snapshot);
        }
        let views: Arc<[View]> = tables.iter().map(Table::view).collect();
        let templates = Arc::new(templates);
        let mut shared = Shared::new(shape.workers, 1);
        shared.iter_mut().for_each(|shared| shared.flows_move = shape.workers > 1);
        let counters = shared.iter().map(|shared| shared.counters.clone()).collect();
        let directors = shared
            .into_iter()
            .zip(tables)
            .map(|(shared, table)| Director::new(shared, table, views.clone(), templates.clone()));
        let directors = directors.collect();
        let lab = Lab {
            registry,
            snapshot,
            masters: HashSet::new(),
            directors,
            counters,
            now,
            wire: HeapWire::default(),
        };
        let mut process = Self { lab: lab.and_pass(), book, files, shape };
        process.assert_counts();
        process
    }

    fn is_taking_over(&self) -> bool {
        self.lab.directors.iter().any(|director| director.is_taking_over)
    }

    /// Counts are right when all is taken over.
    fn assert_counts(&mut self) {
        if !self.is_taking_over() {
            self.lab.assert_counts_equal_a_recount();
        }
    }

    /// Goes on until all is taken over.
    fn take_over_all(&mut self) {
        for _ in 0..5_000 {
            if !self.is_taking_over() {
                return self.lab.assert_counts_equal_a_recount();
            }
            self.lab.pass_millis(1);
        }
        panic!("it does not end");
    }

    fn take_over(config: &Config, shape: Shape, files: [OwnedFd; 2]) -> (Memory, Standing) {
        let (opened_files, files) = opened(config, files).expect("a whole memory");
        let lines = [Templates::lines_for(shape.templates), Templates::lines_for_ipv6(shape.templates)];
        let header = opened_files.header();
        let fits = (header.workers, header.capacity) == (shape.workers as u64, shape.capacity as u64)
            && header.template_lines == lines.map(|lines| lines as u64);
        if fits {
            return by_and_by(config, (opened_files, files));
        }
        // The first one to try ends before it forwards anything.
        let first = opened_files.at_once().adopted;
        let again = files.each_ref().map(|file| file.as_fd().try_clone_to_owned().expect("a descriptor"));
        let (left, files) =
            opened(config, again).map(|(it, files)| (it.at_once(), files)).expect("a whole memory");
        let Left { book, numbers, judge, tables, templates, adopted, .. } = left;
        assert_eq!((first.rebuilt, adopted.rebuilt), (0, 0), "nobody was interrupted");
        assert_eq!((adopted.found, adopted.kept), (first.kept, first.kept));
        assert_eq!(adopted.templates, first.templates);
        let workers = tables.len();
        let census = Census::of(&tables, &templates);
        drop((tables, templates, book, files));
        let mut memory = fresh(shape);
        let is_other = workers != shape.workers;
        let worker_of = |asked: Asked| Some(usize::from(asked.client.port()));
        let put = census.put_into(&mut memory.tables, &memory.templates, &judge, worker_of);
        assert_eq!(put, adopted.kept);
        let has_room = memory.tables.iter().all(|table| table.len() < shape.capacity);
        for (worker, table) in memory.tables.iter().enumerate().filter(|_| is_other && has_room) {
            let has_number = |record: &Record| record.vip().0 < crate::snapshot::vips::OWN;
            let wanted = |record: Record| usize::from(record.client_port()) % shape.workers;
            assert!(table.iter().filter(has_number).all(|record| wanted(record) == worker));
        }
        assert_eq!(memory.templates.total(), adopted.templates);
        let standing = Standing::of(&memory.tables, &memory.templates, &numbers);
        (memory, standing)
    }

    /// It ends, without a word.
    fn end(self) -> ([OwnedFd; 2], Now) {
        let files =
            self.files.each_ref().map(|file| file.as_fd().try_clone_to_owned().expect("a descriptor"));
        (files, self.lab.now)
    }

    fn reload(&mut self, config: &Config) {
        self.assert_counts();
        let templates = self.lab.directors[0].templates.clone();
        let counters = self.lab.counters.iter().map(|counters| &**counters);
        let progress = Progress::of(counters, Some(&templates));
        let next = self.lab.registry.snapshot(config, &[OWN], progress).expect("a valid configuration");
        self.book.note(&next);
        self.lab.snapshot = next;
        self.lab.pass_millis(1);
    }

    fn server_of(&mut self, port: u16, segment: u8) -> Option<u8> {
        let sent = self.lab.send_to(usize::from(port) % self.shape.workers, from_client(port, segment));
        sent.iter().find(|frame| frame[..6] != CLIENT_MAC.0).map(|frame| frame[5])
    }
}

impl Lab {
    fn and_pass(mut self) -> Self {
        self.pass_millis(1);
        self
    }
}

/// One of eight files: some of three real servers, and of two methods.
fn file(number: u8, capacity: usize) -> (Config, Vec<u8>, &'static str) {
    let servers: Vec<u8> = (11..14).filter(|octet| number >> (octet - 11) & 1 == 0 || *octet == 12).collect();
    let method = if number & 0x80 == 0 { "dr" } else { "nat" };
    let listed: Vec<(u8, u16)> = servers.iter().map(|octet| (*octet, 1)).collect();
    let mut config = config(method, "wlc", &listed, "");
    config.connections.capacity = capacity as u32;
    (config, servers, method)
}

fn play(steps: &[(u8, u8)]) {
    let mut shape = Shape { workers: 1, capacity: 1_024, templates: 64 };
    let (mut config, mut servers, mut method) = file(0, shape.capacity);
    let mut process = Process::start(&config, shape, None, Now::default());
    // Who serves a client's port, of the connections that stand: by a name that the file may know no more.
    let mut model: HashMap<u16, (u8, &str)> = HashMap::new();
    for &(step, argument) in steps {
        let port = 1_000 + u16::from(argument & 63);
        match step % 8 {
            0..=3 if !model.contains_key(&port) => {
                let server = process.server_of(port, SYN).expect("somebody serves");
                assert_eq!(process.server_of(port, ACK), Some(server));
                model.insert(port, (server, method));
            }
            0..=3 => {}
            4 => process.lab.pass_millis(u64::from(argument) * 10),
            5 => {
                (config, servers, method) = file(argument, shape.capacity);
                process.reload(&config);
            }
            _ => {
                let (files, now) = process.end();
                if step & 0x10 != 0 {
                    shape = Shape::of(argument);
                }
                if step & 0x20 != 0 {
                    (config, servers, method) = file(argument, shape.capacity);
                } else {
                    config.connections.capacity = shape.capacity as u32;
                }
                process = Process::start(&config, shape, Some(files), now);
            }
        }
        process.assert_counts();
        for (port, (server, began)) in &model {
            // With another method it has another port, too, and so it is another real server.
            let is_there = servers.contains(server) && *began == method;
            let expected = is_there.then_some(*server);
            assert_eq!(
                process.server_of(*port, ACK),
                expected,
                "port {port}, which began with {began}, after {steps:?}"
            );
        }
    }
    process.take_over_all();
    assert_eq!(process.lab.directors.iter().map(|it| it.table.len()).sum::<usize>(), model.len());
}

#[test]
fn connections_go_on_through_reloads_and_sudden_ends_with_other_files_workers_and_sizes() {
    bolero::check!().with_type::<Vec<(u8, u8)>>().with_iterations(60).for_each(|steps| play(steps));
}

#[test]
fn connections_are_where_they_were_after_every_kind_of_end() {
    let open = |count: u8| (0..count).map(|port| (0, port));
    for end in [(6, 0), (6 | 0x10, 1), (6 | 0x10, 4), (6 | 0x20, 1), (6 | 0x30, 0x84), (6 | 0x20, 0x80)] {
        let steps: Vec<(u8, u8)> =
            open(40).chain([end, (4, 200), end, (6 | 0x10, 2), (5, 1), (6, 0)]).collect();
        play(&steps);
    }
}

#[test]
fn packets_are_forwarded_right_while_connections_are_taken_over() {
    for method in [0, 0x80] {
        let shape = Shape { workers: 1, capacity: 4_096, templates: 64 };
        let (config, ..) = file(method, shape.capacity);
        let mut process = Process::start(&config, shape, None, Now::default());
        let ports = 1_000..3_000;
        let open = |process: &mut Process, port| {
            let server = process.server_of(port, SYN).expect("somebody serves");
            assert_eq!(process.server_of(port, ACK), Some(server));
            server
        };
        let served: Vec<u8> = ports.clone().map(|port| open(&mut process, port)).collect();
        for round in 0..3 {
            let (files, now) = process.end();
            process = Process::start(&config, shape, Some(files), now);
            assert!(process.is_taking_over());
            assert!(process.lab.directors[0].table.len() < served.len());
            // Those that it has not come to.
            for (port, server) in ports.clone().zip(&served).filter(|(port, _)| port % 3 == round) {
                assert_eq!(process.server_of(port, ACK), Some(*server), "port {port} in round {round}");
            }
            assert!(process.is_taking_over());
            // One comes in place of another one, whose number stays with its connections.
            let (another, servers, _) = file(method | 1, shape.capacity);
            assert!(!servers.contains(&11));
            process.reload(&another);
            let new = 10_000 + round * 200;
            let to: Vec<u8> = (new..new + 100).map(|port| open(&mut process, port)).collect();
            assert!(to.iter().all(|server| servers.contains(server)));
            process.reload(&config);
            assert!(process.is_taking_over());
            process.take_over_all();
            for (port, server) in ports.clone().zip(&served).chain((new..).zip(&to)) {
                assert_eq!(process.server_of(port, ACK), Some(*server), "port {port} after round {round}");
            }
            process.lab.assert_counts_equal_a_recount();
            let total = process.lab.directors[0].table.len();
            assert_eq!(total, served.len() + 100 * (usize::from(round) + 1));
        }
        process.lab.sweep();
        process.lab.assert_counts_equal_a_recount();
    }
}
