//! `weirctl capture`: frames of a running weir, into a file or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Asked, print};
use crate::cli::{Capture, encoded};
use crate::client::{Client, Door};
use crate::patiently;
use crate::weir::Problem;

const PATH: &str = "/api/v1/capture";
/// How much longer than its time a capture may take to say anything.
const GRACE: Duration = Duration::from_secs(30);
/// The largest block: a whole frame with what goes around it.
const BLOCK_BYTES_MAX: usize = 1 << 20;
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;
/// Options of a block of statistics.
const COMMENT: u16 = 1;
const DROPPED: u16 = 5;

/// Captures until a limit is reached or somebody ends it.
pub(super) fn run(asked: &mut Asked, wanted: &Capture) -> Result<(), Problem> {
    let door = asked.client.door().clone();
    if let Door::Http(address) = door {
        return Err(Problem::Failed(format!(
            "weir's listener at {address} only shows; frames hold what clients send, so captures go through weir's socket (--socket), or take a token of \
             the role write (--url https://..., --token-file)"
        )));
    }
    if wanted.stop {
        let said = asked.client.delete(PATH)?;
        return match asked.is_json {
            true => asked.print_json(&serde_json::json!({"stopped": true})),
            false => print(&said),
        };
    }
    let mut out = Out::of(wanted.write.as_deref(), wanted.force)?;
    let mut blocks = Blocks::default();
    let patience = Duration::from_secs(wanted.time) + GRACE;
    let path = format!("{PATH}?{}", query(wanted));
    let mut stop = || {
        // If it has ended meanwhile, so much the better.
        let other = Client::new(door.clone());
        let _ = other.map(|mut other| other.delete(PATH));
    };
    let read = asked.client.pieces(&path, patience, &mut stop, &mut |piece| {
        let whole = blocks.take(piece).ok_or_else(not_pcapng)?;
        out.write(&whole)
    });
    let ended = read.and_then(|()| match (blocks.has_ended(), blocks.is_whole()) {
        (true, true) => Ok(()),
        _ => Err(Problem::Failed("weir broke the capture off".to_owned())),
    });
    let (frames, lost) = (blocks.frames, blocks.lost);
    if let Err(problem) = ended {
        let kept =
            if frames > 0 { format!("; the {frames} frames until then are kept") } else { String::new() };
        return match problem {
            Problem::Failed(text) => Err(Problem::Failed(text + &kept)),
            other => Err(other),
        };
    }
    let why = &blocks.why;
    let summary = match asked.is_json {
        true => format!("{}\n", serde_json::json!({"captured": frames, "lost": lost, "ended": why})),
        false => format!("{frames} frames captured, {lost} lost: {why}\n"),
    };
    // stdout is the file's if it has no other place.
    if asked.is_json && matches!(out, Out::File(..)) {
        print(&summary)?;
    } else {
        let _ = io::stderr().write_all(summary.as_bytes());
    }
    Ok(())
}

fn not_pcapng() -> Problem {
    Problem::Failed(format!(
        "what weir sends is no pcapng file; is it a weir of version {}?",
        env!("CARGO_PKG_VERSION")
    ))
}

/// As behind the question mark.
fn query(wanted: &Capture) -> String {
    let mut keys = Vec::new();
    let mut add = |key: &str, value: &str| keys.push(format!("{key}={}", encoded(value)));
    if wanted.incoming {
        add("in", "yes");
    }
    if wanted.outgoing {
        add("out", "yes");
    }
    wanted.drop.iter().for_each(|it| add("drop", it));
    wanted.protocol.iter().for_each(|it| add("protocol", it));
    wanted.address.iter().for_each(|it| add("address", it));
    wanted.l4_port.iter().for_each(|it| add("l4_port", &it.to_string()));
    if let Some(port) = &wanted.port {
        add("port", port);
    }
    if let Some(count) = wanted.count {
        add("count", &count.to_string());
    }
    add("snaplen", &wanted.snaplen.to_string());
    add("bytes", &(wanted.size << 20).to_string());
    add("seconds", &wanted.time.to_string());
    keys.join("&")
}

/// Where frames go.
enum Out {
    /// A file that is made when the capture begins: nothing is left behind by one that does not.
    File(PathBuf, bool, Option<File>),
    Stdout,
}

impl Out {
    fn of(path: Option<&Path>, force: bool) -> Result<Self, Problem> {
        match path {
            Some(path) if path != Path::new("-") => {
                if !force && path.symlink_metadata().is_ok() {
                    return Err(exists(path));
                }
                Ok(Self::File(path.to_owned(), force, None))
            }
            _ if io::stdout().is_terminal() => Err(Problem::Failed(
                "frames are not for a terminal: say -w FILE, or have them printed by `weirctl capture | tcpdump -nr -`"
                    .to_owned(),
            )),
            _ => Ok(Self::Stdout),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        match self {
            Self::File(path, force, file) => {
                let open = match file {
                    Some(file) => file,
                    // A FIFO waits for who reads it.
                    None => file.insert(patiently(path, || create(path, *force))?),
                };
                open.write_all(bytes).map_err(|problem| failed(path, &problem))
            }
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                Ok(stdout.flush()?)
            }
        }
    }
}

fn create(path: &Path, force: bool) -> Result<File, Problem> {
    let mut options = OpenOptions::new();
    // What clients send is nobody else's business.
    options.write(true).mode(0o600);
    let made = match force {
        true => options.create(true).truncate(true).open(path),
        false => options.create_new(true).open(path),
    };
    made.map_err(|problem| match problem.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => failed(path, &problem),
    })
}

fn exists(path: &Path) -> Problem {
    Problem::Failed(format!("{} exists; --force writes over it", path.display()))
}

fn failed(path: &Path, problem: &io::Error) -> Problem {
    Problem::Failed(format!("{} can't be written: {problem}", path.display()))
}

/// The blocks of a file that comes in pieces of any length. Only whole ones are passed on, so that what is written can be read
/// wherever it ends.
#[derive(Default)]
struct Blocks {
    rest: Vec<u8>,
    frames: u64,
    lost: u64,
    /// Why the capture has ended, as its last blocks say.
    why: String,
}

impl Blocks {
    /// Takes a piece, and hands out what is whole. `None`: it is no pcapng.
    fn take(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        self.rest.extend_from_slice(piece);
        let mut at = 0;
        while let Some(block) = self.rest.get(at..).filter(|rest| rest.len() >= 12) {
            let len = word(block, 4)? as usize;
            if len < 12 || !len.is_multiple_of(4) || len > BLOCK_BYTES_MAX {
                return None;
            }
            let Some(block) = block.get(..len) else { break };
            match word(block, 0)? {
                PACKET => self.frames += 1,
                STATISTICS => {
                    let (lost, why) = statistics(block)?;
                    self.lost += lost;
                    self.why = why;
                }
                _ => {}
            }
            at += len;
        }
        Some(self.rest.drain(..at).collect())
    }

    /// Whether there is nothing of a block that has not come to its end.
    fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    fn has_ended(&self) -> bool {
        !self.why.is_empty()
    }
}

/// Frames lost, and the comment.
fn statistics(block: &[u8]) -> Option<(u64, String)> {
    let (mut lost, mut why) = (0, String::new());
    let mut options = block.get(20..block.len() - 4)?;
    while let [a, b, c, d, rest @ ..] = options {
        let (code, len) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        let value = rest.get(..len)?;
        match code {
            DROPPED => lost = u64::from_le_bytes(value.try_into().ok()?),
            // A terminal would obey what controls it.
            COMMENT => why = String::from_utf8_lossy(value).chars().filter(|it| !it.is_control()).collect(),
            _ => {}
        }
        options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((lost, why))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    fn closing(lost: u64, why: &str) -> Vec<u8> {
        let mut body = vec![0; 12];
        body.extend([5, 0, 8, 0]);
        body.extend(lost.to_le_bytes());
        body.extend([1, 0, why.len() as u8, 0]);
        body.extend(why.as_bytes());
        body.resize(body.len().next_multiple_of(4) + 4, 0);
        block(STATISTICS, &body)
    }

    #[test]
    fn whole_blocks_are_passed_on_however_they_come() {
        let file = [
            block(0x0a0d_0d0a, &[1; 16]),
            block(PACKET, &[2; 40]),
            closing(7, "the count is reached"),
            closing(2, "x"),
        ]
        .concat();
        for piece in [1, 3, 16, 61, file.len()] {
            let mut blocks = Blocks::default();
            let mut passed = Vec::new();
            for bytes in file.chunks(piece) {
                let whole = blocks.take(bytes).unwrap();
                assert!(whole.len().is_multiple_of(4));
                passed.extend(whole);
            }
            assert_eq!(passed, file);
            assert_eq!((blocks.frames, blocks.lost, blocks.why.as_str()), (1, 9, "x"));
            assert!(blocks.is_whole());
        }
        let mut cut = Blocks::default();
        cut.take(&file[..60]).unwrap();
        assert!(!cut.is_whole() && !cut.has_ended());
    }

    #[test]
    fn what_is_no_pcapng_is_told_from_it() {
        for bytes in [&[0u8; 16][..], b"<html><body>no</body></html>", &[6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(Blocks::default().take(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_kept() {
        let path = std::env::temp_dir().join(format!("weirctl-capture-{}", std::process::id()));
        std::fs::write(&path, "mine").unwrap();
        let problem = Out::of(Some(&path), false).err().unwrap().to_string();
        assert!(problem.ends_with("exists; --force writes over it"), "{problem}");
        let mut out = Out::of(Some(&path), true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine", "until there is something to write");
        out.write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::remove_file(&path).unwrap();
        assert!(Out::of(Some(Path::new("/nowhere/x")), false).unwrap().write(b"x").is_err());
    }
}
