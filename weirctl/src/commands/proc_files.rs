//! `weirctl proc`

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Asked, print};
use crate::cli::ProcFile;
use crate::proc;
use crate::weir::{Problem, Weir};

/// Prints one of IPVS's files.
pub(super) fn run(asked: &mut Asked, file: ProcFile) -> Result<(), Problem> {
    match file {
        ProcFile::Services => print(&proc::ip_vs(&asked.client.virtual_servers(false)?)),
        ProcFile::Stats => print(&proc::ip_vs_stats(&asked.client.virtual_servers(false)?)),
        ProcFile::Connections => {
            let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
            out.write_all(proc::CONNECTION_TITLE.as_bytes())?;
            asked.client.connections("&templates=yes", &mut |connection| {
                out.write_all(proc::connection(&connection).as_bytes())
            })?;
            out.flush()?;
            Ok(())
        }
    }
}

/// Keeps `net/ip_vs` and `net/ip_vs_stats` in a directory until interrupted, for whoever reads them from /proc otherwise. While weir does
/// not answer they are not there, as without IPVS.
pub(super) fn keep(asked: &mut Asked, directory: &Path, interval: Duration) -> Result<(), Problem> {
    let mut is_told = false;
    loop {
        let began = Instant::now();
        match refresh(&mut asked.client, directory) {
            Ok(()) => is_told = false,
            Err(Problem::Failed(problem)) => {
                if !is_told {
                    let _ = writeln!(io::stderr(), "weirctl: {problem}");
                }
                is_told = true;
            }
            Err(problem) => return Err(problem),
        }
        sleep(interval.saturating_sub(began.elapsed()));
    }
}

fn refresh(weir: &mut dyn Weir, directory: &Path) -> Result<(), Problem> {
    let failed = |problem: io::Error| {
        Problem::Failed(format!("{} can't be written: {problem}", directory.join("net").display()))
    };
    match weir.virtual_servers(false) {
        Ok(listed) => proc::keep(directory, &listed).map_err(failed),
        Err(problem) => {
            proc::remove(directory);
            Err(problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use weir_api::edits::{Applied, Edit, Timeouts};
    use weir_api::virtual_servers::VirtualServer;

    use super::*;
    use crate::ipvsadm::tests::after;
    use crate::weir::Each;

    struct Gone;

    impl Weir for Gone {
        fn virtual_servers(&mut self, _: bool) -> Result<Vec<VirtualServer<'static>>, Problem> {
            Err(Problem::Failed("nobody answers".to_owned()))
        }
        fn connections(&mut self, _: &str, _: &mut Each<'_>) -> Result<(), Problem> {
            Err(Problem::Failed("nobody answers".to_owned()))
        }
        fn timeouts(&mut self) -> Result<Timeouts, Problem> {
            Err(Problem::Failed("nobody answers".to_owned()))
        }
        fn edit(&mut self, _: Vec<Edit>) -> Result<Applied, Problem> {
            Err(Problem::Failed("nobody answers".to_owned()))
        }
    }

    #[test]
    fn files_are_there_while_weir_answers() {
        let directory = std::env::temp_dir().join(format!("weirctl-proc-{}", std::process::id()));
        let names = || {
            let mut names: Vec<_> = fs::read_dir(directory.join("net"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        refresh(&mut after(&["-A -t 192.0.2.1:80"]), &directory).unwrap();
        assert_eq!(names(), ["ip_vs", "ip_vs_stats"]);
        let text = fs::read_to_string(directory.join("net/ip_vs")).unwrap();
        assert!(text.contains("TCP  C0000201:0050 wlc"), "{text}");
        assert!(refresh(&mut Gone, &directory).is_err());
        assert_eq!(names(), [""; 0]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
