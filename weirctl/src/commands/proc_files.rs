//! `weirctl proc`

use std::io::{self, BufWriter, Write as _};

use super::{Asked, print};
use crate::cli::ProcFile;
use crate::proc;
use crate::weir::{Problem, Weir as _};

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
