//! Files come back as they were given, however often they are asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use weir_keeper::{Keeper, Shelf, listen, serve};

fn running(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("weir-keeper-{name}-{}", std::process::id()));
    let listener = listen(&path).expect("a socket");
    std::thread::spawn(move || serve(&listener, &mut Shelf::default(), |_| {}));
    path
}

fn file(text: &str) -> File {
    let path = std::env::temp_dir().join(format!("weir-keeper-file-{text}-{}", std::process::id()));
    let mut file =
        File::options().create(true).truncate(true).write(true).read(true).open(&path).expect("a file");
    std::fs::remove_file(path).expect("its file");
    file.write_all(text.as_bytes()).expect("room");
    file
}

fn read(file: std::os::fd::OwnedFd) -> String {
    let (mut file, mut text) = (File::from(file), String::new());
    file.rewind().expect("a file");
    file.read_to_string(&mut text).expect("a text");
    text
}

#[test]
fn what_is_kept_is_there_until_it_is_dropped() {
    let socket = running("kept");
    let (one, other) = (Keeper::new(&socket, "one"), Keeper::new(&socket, "other"));
    assert!(one.take().expect("a keeper").is_none());
    one.keep(&[file("a").as_fd(), file("b").as_fd()]).expect("room");
    for _ in 0..3 {
        let files = one.take().expect("a keeper").expect("files");
        assert_eq!(files.into_iter().map(read).collect::<Vec<_>>(), ["a", "b"]);
    }
    assert!(other.take().expect("a keeper").is_none(), "it is somebody else's");
    one.keep(&[file("c").as_fd()]).expect("room");
    assert_eq!(one.take().expect("a keeper").expect("files").len(), 1);
    one.forget().expect("a keeper");
    assert!(one.take().expect("a keeper").is_none());
}

#[test]
fn nonsense_is_answered_by_a_sentence_and_harms_nobody() {
    let socket = running("nonsense");
    let nobody = Keeper::new(&socket, "");
    assert_eq!(nobody.take().expect_err("no name").to_string(), "a request is a word and a name");
    let one = Keeper::new(&socket, "one");
    assert_eq!(one.keep(&[]).expect_err("no file").to_string(), "nothing to keep");
    assert!(Keeper::new(&socket, &"x".repeat(1_000)).take().is_err());
    let names: Vec<Keeper> = (0..65).map(|name| Keeper::new(&socket, &name.to_string())).collect();
    let kept = names.iter().map(|name| name.keep(&[file("x").as_fd()]));
    assert_eq!(kept.filter(Result::is_ok).count(), 64);
    assert!(listen(&socket).is_err(), "there is a keeper already");
}

#[test]
fn a_keeper_that_hangs_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("weir-keeper-hangs-{}", std::process::id()));
    let _listener = listen(&path).expect("a socket");
    let (tell, told) = mpsc::channel();
    // More than find room among those that wait.
    for _ in 0..24 {
        let (tell, one) = (tell.clone(), Keeper::new(&path, "one"));
        std::thread::spawn(move || tell.send(one.take().is_err()));
    }
    for _ in 0..24 {
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}

#[test]
fn a_keeper_whose_log_nobody_reads_serves_on_and_says_later_what_was_lost() {
    let socket = std::env::temp_dir().join(format!("weir-keeper-unread-{}", std::process::id()));
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_weir-keeper"));
    let mut keeper = keeper.arg("--socket").arg(&socket).stderr(Stdio::piped()).spawn().expect("the keeper");
    let mut log = BufReader::new(keeper.stderr.take().expect("its log"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    assert!(line.contains("ready"), "{line}");
    // Each is worth a line. A pipe has room for 64 KiB.
    let nonsense = Keeper::new(&socket, &"x".repeat(1_000));
    for _ in 0..2_000 {
        assert!(nonsense.take().is_err());
    }
    let one = Keeper::new(&socket, "one");
    one.keep(&[file("unread").as_fd()]).expect("room");
    assert_eq!(one.take().expect("a keeper").expect("files").len(), 1);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let lost = log.lines().map_while(Result::ok).find(|line| line.contains("before this one were lost"));
        tell.send(lost)
    });
    let lost = (0..600).find_map(|_| {
        assert!(nonsense.take().is_err());
        told.recv_timeout(Duration::from_millis(100)).ok()
    });
    keeper.kill().expect("a process");
    keeper.wait().expect("a process");
    let lost = lost.flatten().expect("a line that says so");
    assert!(lost.contains("a packet was too long"), "{lost}");
}
