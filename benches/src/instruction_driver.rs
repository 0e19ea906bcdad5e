//! What `benches/instructions` runs under valgrind: one case of traffic, the same in each run.
//!
//! `instruction-driver` prints the names of the cases; `instruction-driver NAME` runs one and prints how many packets
//! went through [`weir_benches::cases::measured`], the function whose instructions are counted.

use std::io::{Write, stdout};
use std::process::ExitCode;

use weir_benches::cases::{ALL, run};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        let names: String = ALL.iter().map(|case| format!("{}\n", case.name)).collect();
        return said(&names);
    };
    let Some(case) = ALL.iter().find(|case| case.name == name) else {
        return ExitCode::from(2);
    };
    let (mut lab, frames) = (case.prepare)();
    let packets = run(&mut lab, &frames, case.passes);
    said(&format!("{packets}\n"))
}

fn said(text: &str) -> ExitCode {
    if stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
