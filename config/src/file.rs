//! Files that somebody else writes, read without waiting for anybody.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The content of a regular file of at most `bytes_max` bytes.
///
/// Anything else is refused before it is read: a FIFO without a writer would keep its reader for ever, and a device may have no
/// end. Opening does not wait either.
///
/// # Errors
/// What the system says, and [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::FileTooLarge`] with a phrase such as "it is a
/// FIFO, not a regular file".
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    // A socket can't be opened at all, and says so in other words.
    let file = file.map_err(|problem| match path.metadata().map(|found| kind(found.file_type())) {
        Ok(Some(kind)) => not_regular(kind),
        _ => problem,
    })?;
    if let Some(kind) = kind(file.metadata()?.file_type()) {
        return Err(not_regular(kind));
    }
    read_bounded(file, bytes_max)
}

/// All of a file that may be of any kind, unless it holds more than `bytes_max` bytes. Waits for whoever writes it.
pub(crate) fn read_bounded(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let size = match bytes_max {
            0..1024 => format!("{bytes_max} bytes"),
            1024..1_048_576 => format!("{} KiB", bytes_max >> 10),
            _ => format!("{} MiB", bytes_max >> 20),
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {size}")));
    }
    Ok(bytes)
}

fn not_regular(kind: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file"))
}

/// What it is, if it is no regular file.
fn kind(found: FileType) -> Option<&'static str> {
    Some(match found {
        it if it.is_file() => return None,
        it if it.is_dir() => "a directory",
        it if it.is_fifo() => "a FIFO",
        it if it.is_socket() => "a socket",
        _ => "a device",
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read_and_nothing_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("weir-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let [fifo, socket, plain] = ["fifo", "socket", "plain"].map(|name| dir.join(name));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(&plain, "12345678").unwrap();
        let said = |path: &Path| read_file(path, 7).unwrap_err().to_string();
        let all = [
            said(&fifo),
            said(&socket),
            said(&dir),
            said(Path::new("/dev/zero")),
            said(&plain),
            said(&dir.join("none")),
        ];
        let read = read_file(&plain, 8);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            all,
            [
                "it is a FIFO, not a regular file",
                "it is a socket, not a regular file",
                "it is a directory, not a regular file",
                "it is a device, not a regular file",
                "it is larger than 7 bytes",
                "No such file or directory (os error 2)",
            ]
        );
        assert_eq!(read.unwrap(), b"12345678");
    }
}
