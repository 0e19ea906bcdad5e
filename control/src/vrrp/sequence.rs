//! The numbers of authentication headers, kept over a restart in the files that `sequence_file` names.
//!
//! A router that starts anew has seen no number yet, so it would believe advertisements of a former master that somebody
//! has recorded. With what it had seen or sent before, it goes on where it was. A number belongs to a password: the file
//! holds a word of 16 bits that tells one password from another and is too short to try passwords against.
//!
//! Files are written by threads of their own, since a file system may hang: control and VRRP's thread never wait. They are
//! read by threads of their own as well, for new instances alone and for so long and no longer, by the start and beside control
//! at a reload.

mod writer;

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tracing::warn;
use weir_config::model::Config;
use weir_config::read_file;
use weir_dataplane::snapshot::virtual_router::RouterKey;

use super::settings::{Numbers, authentication};
use crate::lasting::Lasts;
use writer::Writer;

/// Between two writes of a file, and so how much of a recording may still be believed.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// What can't be read in this time is not waited for.
const READ_TIME_MAX: Duration = Duration::from_secs(1);
/// A file holds two numbers and no more.
const FILE_BYTES_MAX: u64 = 64;

/// The files of the present configuration.
pub(super) struct Sequences {
    kept: HashMap<RouterKey, Kept>,
    writer: Writer,
    written: Option<Instant>,
}

struct Kept {
    path: PathBuf,
    tag: u16,
    /// What is in the file, or on its way.
    number: u32,
}

impl Sequences {
    /// None.
    pub(super) fn new() -> Self {
        Self { kept: HashMap::new(), writer: Writer::new(write), written: None }
    }

    /// How long the write that is under way lasts.
    pub(super) fn writing(&self) -> Lasts {
        self.writer.lasts()
    }

    /// Says so if a write does not come to its end.
    pub(super) fn look(&mut self, now: Instant) {
        self.writer.look(now);
    }

    /// Takes over the files of a configuration. Those that were named before go on.
    pub(super) fn configure(&mut self, config: &Config) {
        let named = config.vrrp.iter().filter_map(|vrrp| {
            let path = vrrp.sequence_file.clone()?;
            Some((RouterKey::of(vrrp), Kept { path, tag: authentication(vrrp).tag(), number: 0 }))
        });
        let mut kept: HashMap<RouterKey, Kept> = named.collect();
        for (key, kept) in &mut kept {
            if let Some(before) = self.kept.get(key).filter(|it| it.path == kept.path && it.tag == kept.tag) {
                kept.number = before.number;
            }
        }
        self.kept = kept;
        self.writer.keep_to(self.kept.values().map(|kept| kept.path.as_path()));
    }

    /// Keeps what the instances have come to: their numbers, by instance. At most once a second.
    pub(super) fn keep(&mut self, numbers: impl IntoIterator<Item = (RouterKey, u32)>) {
        let now = Instant::now();
        let is_due = self.written.is_none_or(|last| now - last >= WRITE_INTERVAL);
        if self.kept.is_empty() || !is_due {
            return;
        }
        self.written = Some(now);
        for (key, number) in numbers {
            let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.number != number) else { continue };
            if self.writer.write(&kept.path, format!("{number} {}\n", kept.tag)) {
                kept.number = number;
            }
        }
    }
}

/// The numbers that were kept of the instances that are not in the former configuration: the others go on with what they have,
/// and begin at 0 with a new password. Takes a second at most.
pub(crate) fn read_new(config: &Config, former: Option<&Config>) -> Numbers {
    read_within(READ_TIME_MAX, config, former, kept_of)
}

fn read_within(
    time_max: Duration,
    config: &Config,
    former: Option<&Config>,
    read: fn(&Path, u16) -> u32,
) -> Numbers {
    let known: HashSet<RouterKey> =
        former.iter().flat_map(|former| former.vrrp.iter().map(RouterKey::of)).collect();
    // A thread for each folder, so that a file system that hangs holds up no file of another.
    let mut folders: HashMap<PathBuf, Vec<(RouterKey, PathBuf, u16)>> = HashMap::new();
    let mut awaited: HashMap<RouterKey, PathBuf> = HashMap::new();
    for vrrp in config.vrrp.iter().filter(|vrrp| !known.contains(&RouterKey::of(vrrp))) {
        let Some(path) = &vrrp.sequence_file else { continue };
        let key = RouterKey::of(vrrp);
        awaited.insert(key, path.clone());
        let folder = path.parent().unwrap_or(path).to_owned();
        folders.entry(folder).or_default().push((key, path.clone(), authentication(vrrp).tag()));
    }
    let (sender, receiver) = channel();
    for files in folders.into_values() {
        let sender = sender.clone();
        let read_all = move || {
            for (key, path, tag) in files {
                if sender.send((key, read(&path, tag))).is_err() {
                    return;
                }
            }
        };
        if let Err(problem) = std::thread::Builder::new().name("weir-sequence".to_owned()).spawn(read_all) {
            warn!("VRRP: sequence numbers are not read: no thread for it: {problem}");
        }
    }
    drop(sender);
    let end = Instant::now() + time_max;
    let mut numbers = Numbers::new();
    while let Ok((key, number)) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
        awaited.remove(&key);
        numbers.insert(key, number);
    }
    for path in awaited.values() {
        warn!(
            file = %path.display(),
            "VRRP: the sequence number can't be read in time, recordings may be believed: the file system hangs"
        );
    }
    numbers
}

/// The number that was kept in a file with this password, 0 if there is none. As slow as the file system.
fn kept_of(path: &Path, tag: u16) -> u32 {
    match read_file(path, FILE_BYTES_MAX) {
        Ok(bytes) => {
            let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
            if parsed.is_none() {
                warn!(file = %path.display(), "VRRP: no sequence number in the file; it is written anew");
            }
            parsed.filter(|(_, of)| *of == tag).map_or(0, |(number, _)| number)
        }
        Err(problem) if problem.kind() == ErrorKind::NotFound => 0,
        Err(problem) => {
            warn!(file = %path.display(), "VRRP: the sequence number can't be read, recordings may be believed: {problem}");
            0
        }
    }
}

/// Number and word of the password.
fn parse(text: &str) -> Option<(u32, u16)> {
    let (number, tag) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, tag.parse().ok()?))
}

/// Replaces a file, so that whoever reads it finds the former text or this one. What is no regular file is left alone: a
/// device that is named by mistake must not go, and a link would be replaced instead of what it leads to.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Err(problem) if problem.kind() != ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // Left over from a write that was cut short, or put there by somebody: it is neither followed nor waited for.
    match std::fs::remove_file(&beside) {
        Err(problem) if problem.kind() != ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.write(true).create_new(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, password: &str) -> Config {
        let text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
             [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\naddresses = [\"10.0.0.100\"]\n\
             authentication = {{ type = \"ah\", password = \"{password}\", sequence_file = \"{}\" }}\n",
            path.display()
        );
        weir_config::parse("test", &text).unwrap().config
    }

    fn kept(config: &Config) -> u32 {
        read_within(Duration::from_secs(60), config, None, kept_of)[&RouterKey::of(&config.vrrp[0])]
    }

    #[test]
    fn a_number_is_found_again_with_its_password_alone() {
        let path = std::env::temp_dir().join(format!("weir-sequence-{}", std::process::id()));
        let config = file(&path, "secret");
        assert_eq!(kept(&config), 0);
        let mut sequences = Sequences::new();
        sequences.configure(&config);
        sequences.keep([(RouterKey::of(&config.vrrp[0]), 4711)]);
        let end = Instant::now() + Duration::from_secs(60);
        while kept(&config) != 4711 {
            assert!(Instant::now() < end, "{:?}", std::fs::read_to_string(&path));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(kept(&file(&path, "another")), 0);
        std::fs::write(&path, "rubbish").unwrap();
        assert_eq!(kept(&config), 0);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_hangs_is_not_waited_for_and_that_of_a_known_instance_not_read() {
        let config = file(Path::new("/nowhere/number"), "secret");
        let hang = |_: &Path, _| {
            std::thread::sleep(Duration::from_secs(3600));
            1
        };
        let start = Instant::now();
        assert!(read_within(Duration::from_millis(20), &config, None, hang).is_empty());
        assert!(start.elapsed() < Duration::from_secs(600));
        let never = |_: &Path, _| panic!("read");
        assert!(read_within(Duration::from_secs(60), &config, Some(&config), never).is_empty());
    }

    #[test]
    fn what_is_no_regular_file_is_neither_written_nor_replaced() {
        let folder = std::env::temp_dir().join(format!("weir-sequence-kinds-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (path, beside, other) = (folder.join("number"), folder.join("number.new"), folder.join("other"));
        let make_fifo = |at: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(at).status().unwrap().success());
        };
        std::fs::write(&other, "precious").unwrap();

        // Beside the file: a FIFO is not waited for, a link not followed.
        make_fifo(&beside);
        write(&path, "1 2\n").unwrap();
        std::os::unix::fs::symlink(&other, &beside).unwrap();
        write(&path, "3 4\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3 4\n");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());

        // The file itself.
        std::fs::remove_file(&path).unwrap();
        make_fifo(&path);
        write(&path, "5 6\n").unwrap_err();
        assert!(!std::fs::symlink_metadata(&path).unwrap().is_file());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        write(&path, "5 6\n").unwrap_err();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
