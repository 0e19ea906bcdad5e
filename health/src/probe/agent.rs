//! Who tells a weight: an agent on the real server, or a file on the director. Both in the same words.
//!
//! Words are separated by blanks or commas; what follows a `#` is a remark. Each telling is whole: without a word for it a
//! server is up and has the weight of the configuration.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_config::model::health::{Agent, Timeouts};

use super::connect::{self, read_until};
use super::matching::shown;
use super::{ANSWER_BYTES_MAX, Failure, Found, Limits, Success, Target};
use crate::judge::Outcome;
use crate::overlay::{Limit, Weight};

/// A file that can't be read within this is on a file system that hangs.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);
/// Files that are being read. One on a file system that hangs keeps a thread for as long, and no second one.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Asks an agent.
pub(super) async fn ask(agent: &Agent, at: SocketAddr) -> Found {
    let limit = agent.timeout;
    let timeouts = Timeouts { connect: limit, tls: limit, response: limit, whole: limit };
    let target = Target { at, source: None, timeouts, limits: Limits::new(limit) };
    let mut stream = connect::tcp(&target).await?;
    let converse = async {
        connect::say(&mut stream, &agent.send).await?;
        let mut answer = Vec::new();
        read_until(&mut stream, &mut answer, ANSWER_BYTES_MAX, |answer| answer.contains(&b'\n')).await?;
        Ok(answer)
    };
    let answer = target.limits.stage(limit, "answer", converse).await?;
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.trim_ascii().is_empty() {
        return Err(Failure::new(Outcome::Closed, "closed without an answer"));
    }
    understand(line)
}

/// Reads a file. One that is not there says nothing, which is no failure.
pub(super) async fn read(path: &Path) -> Found {
    read_by(path, |path| weir_config::read_file(path, ANSWER_BYTES_MAX as u64)).await
}

async fn read_by(path: &Path, read: fn(&Path) -> io::Result<Vec<u8>>) -> Found {
    let hangs = |what: &str| {
        Failure::new(
            Outcome::Error,
            format!("{what} after {} s: its file system may not answer", FILE_TIMEOUT.as_secs()),
        )
    };
    let turn = Turn::take(path).ok_or_else(|| hangs("the read of before has not ended"))?;
    let work = move || read(&turn.0);
    let text = match tokio::time::timeout(FILE_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(Ok(text))) => Some(text),
        Ok(Ok(Err(problem))) if problem.kind() == ErrorKind::NotFound => None,
        Ok(Ok(Err(problem))) => return Err(Failure::local("reading", &problem)),
        Ok(Err(problem)) => return Err(Failure::new(Outcome::Error, problem.to_string())),
        Err(_) => return Err(hangs("not read")),
    };
    match text {
        Some(text) => understand(&text),
        None => Ok(Success {
            detail: "there is no file".to_owned(),
            weight: Some(Weight::Configured),
            limit: Some(Limit::Configured),
            says_down: Some(false),
        }),
    }
}

/// A file is being read, by one thread at a time.
struct Turn(PathBuf);

impl Turn {
    /// `None`: somebody else reads it.
    fn take(path: &Path) -> Option<Self> {
        Self::under_way().insert(path.to_owned()).then(|| Self(path.to_owned()))
    }

    fn under_way() -> MutexGuard<'static, BTreeSet<PathBuf>> {
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        Self::under_way().remove(&self.0);
    }
}

fn understand(text: &[u8]) -> Found {
    let unexpected = || {
        let detail = format!("not understood: {}", shown(text.trim_ascii()));
        Failure::new(Outcome::Unexpected, detail)
    };
    fn parsed<N: std::str::FromStr>(text: &str) -> Option<N> {
        // `+5` is a number for the library.
        text.parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
    }
    let readable = std::str::from_utf8(text).map_err(|_| unexpected())?;
    let mut weight = Weight::Configured;
    let mut limit = Limit::Configured;
    let mut says_down = false;
    let said = readable.lines().map(|line| line.split('#').next().unwrap_or_default());
    for word in said.flat_map(|line| line.split([' ', '\t', ',', '\r'])).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "up" | "ready" => says_down = false,
            "down" | "fail" | "failed" | "stopped" => says_down = true,
            "drain" | "maint" => weight = Weight::Fixed(0),
            other => match (other.strip_prefix("maxconn:"), other.strip_suffix('%')) {
                (Some(most), _) => limit = Limit::Fixed(parsed(most).ok_or_else(unexpected)?),
                (None, Some(percent)) => weight = Weight::Percent(parsed(percent).ok_or_else(unexpected)?),
                (None, None) => weight = Weight::Fixed(parsed(other).ok_or_else(unexpected)?),
            },
        }
    }
    let detail = shown(text.trim_ascii());
    Ok(Success { detail, weight: Some(weight), limit: Some(limit), says_down: Some(says_down) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_a_fifo_is_refused_and_not_waited_for() {
        let fifo = std::env::temp_dir().join(format!("weir-weight-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let found = read(&fifo).await;
        std::fs::remove_file(&fifo).unwrap();
        let found = found.unwrap_err();
        assert_eq!(found.detail, "reading: it is a FIFO, not a regular file");
        assert_eq!(found.outcome, Outcome::Error);
    }

    #[tokio::test]
    async fn a_file_that_can_t_be_opened_is_a_fault_of_this_host() {
        let circle = std::env::temp_dir().join(format!("weir-circle-{}", std::process::id()));
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        let found = read(&circle).await;
        std::fs::remove_file(&circle).unwrap();
        let found = found.unwrap_err();
        assert_eq!(found.outcome, Outcome::Error, "{found:?}");
    }

    #[tokio::test]
    async fn a_file_that_does_not_come_takes_one_thread_and_is_a_fault_of_this_host() {
        static READS: AtomicUsize = AtomicUsize::new(0);
        static IS_THERE: AtomicBool = AtomicBool::new(false);
        let hanging = |_: &Path| {
            READS.fetch_add(1, SeqCst);
            while !IS_THERE.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(b"75%".to_vec())
        };
        let path = Path::new("/hangs");
        let first = read_by(path, hanging).await.unwrap_err();
        assert_eq!(
            (first.outcome, first.detail.as_str()),
            (Outcome::Error, "not read after 2 s: its file system may not answer")
        );
        for _ in 0..10 {
            assert_eq!(read_by(path, hanging).await.unwrap_err().outcome, Outcome::Error);
        }
        assert_eq!(READS.load(SeqCst), 1);
        IS_THERE.store(true, SeqCst);
        let weight = loop {
            match read_by(path, hanging).await {
                Ok(found) => break found.weight,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        assert_eq!(weight, Some(Weight::Percent(75)));
    }

    #[test]
    fn a_limit_of_connections_is_as_haproxy_writes_it() {
        let told = |text: &str| understand(text.as_bytes()).map(|it| (it.weight.unwrap(), it.limit.unwrap()));
        assert_eq!(told("up 75% maxconn:30\n"), Ok((Weight::Percent(75), Limit::Fixed(30))));
        assert_eq!(told("MAXCONN:0"), Ok((Weight::Configured, Limit::Fixed(0))));
        assert_eq!(told("drain"), Ok((Weight::Fixed(0), Limit::Configured)));
        for bad in ["maxconn:", "maxconn: 30x", "maxconn:-1", "maxconn:5%", "maxconn:4294967296", "maxconn=3"]
        {
            assert!(told(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tellings_are_understood() {
        let told =
            |text: &str| understand(text.as_bytes()).map(|it| (it.weight.unwrap(), it.says_down.unwrap()));
        assert_eq!(told("75%\n"), Ok((Weight::Percent(75), false)));
        assert_eq!(told("up 100%\r\n"), Ok((Weight::Percent(100), false)));
        assert_eq!(told("30"), Ok((Weight::Fixed(30), false)));
        assert_eq!(told("down # on fire, 3%"), Ok((Weight::Configured, true)));
        assert_eq!(told("up,drain"), Ok((Weight::Fixed(0), false)));
        assert_eq!(told(""), Ok((Weight::Configured, false)));
        for bad in ["yes", "-1", "65536", "1e3", "%", "70000%", "\u{fffd}"] {
            assert!(told(bad).is_err(), "{bad}");
        }
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = understand(bytes);
        });
    }
}
