//! Bursts by grammar through directors on one and two workers, with edits and time in between.
//!
//! Whatever comes in: nothing panics; every frame has one verdict; every frame that goes out has sound lengths, and
//! checksums as right as they came; counts equal a recount; no buffer is lost. A case that fails is made small and
//! written to a file that says all of it; moved to `dataplane/testdata/fuzz` it is played with every `cargo test`.
//!
//! `ci/fuzz` runs this for as long as asked. It sets:
//!
//! | variable | meaning |
//! |---|---|
//! | `WEIR_FUZZ_SEED` | the first case's seed; each next one is one more |
//! | `WEIR_FUZZ_BURSTS` | bursts to play |
//! | `WEIR_FUZZ_CASES` | directory for files of cases that fail |

mod buffer;
mod case;
pub(super) mod chance;
pub(super) mod files;
mod grammar;
mod grammar6;
mod judge;
mod judge6;
mod packets;
mod rig;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Instant;

use case::{Case, Step};
use chance::Chance;
use rig::Rig;

/// Bursts of one case.
const BURSTS_PER_CASE: u64 = 120;
/// Bursts that `cargo test` plays: less than half a minute in a debug build.
const BURSTS: u64 = 12_000;
const SEED: u64 = 0x7765_6972;

thread_local! {
    /// Whether a panic on this thread is a finding.
    static IS_PLAYING: Cell<bool> = const { Cell::new(false) };
    static FAULT: RefCell<String> = const { RefCell::new(String::new()) };
}

#[test]
fn whatever_comes_in_every_frame_has_one_sound_end() {
    let number = |name: &str, usual: u64| match std::env::var(name) {
        Ok(text) => parse_number(&text).unwrap_or_else(|| panic!("{name} is {text}, which is no number")),
        Err(_) => usual,
    };
    let (seed, bursts) = (number("WEIR_FUZZ_SEED", SEED), number("WEIR_FUZZ_BURSTS", BURSTS));
    let begin = Instant::now();
    let (mut played, mut told) = (0, 0);
    for seed in seed.. {
        if played >= bursts {
            break;
        }
        played += BURSTS_PER_CASE;
        if let Err((case, fault)) = explore(seed) {
            let path = keep(case, seed, &fault);
            panic!("seed {seed:#x} after {played} bursts; the case is in {}\n{fault}", path.display());
        }
        if begin.elapsed().as_secs() / 10 > told {
            told = begin.elapsed().as_secs() / 10;
            // Past the capture of the harness, for who waits.
            let rate = played as f64 / begin.elapsed().as_secs_f64();
            let _ = writeln!(std::io::stderr(), "{played} bursts, {rate:.0} a second, seed {seed:#x}");
        }
    }
}

#[test]
fn cases_that_once_failed_pass() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz");
    let mut paths: Vec<PathBuf> = match std::env::var_os("WEIR_FUZZ_CASE") {
        Some(path) => vec![path.into()],
        None => {
            std::fs::read_dir(directory).expect("cases").map(|entry| entry.expect("a case").path()).collect()
        }
    };
    paths.sort();
    for path in paths {
        let case = Case::from_json(&std::fs::read_to_string(&path).expect("a case"));
        if let Some(fault) = fault_of(&case) {
            panic!("{}: {fault}", path.display());
        }
    }
}

/// With and without `0x` in front.
fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Plays a case while it is made. A finding comes with all steps up to it.
fn explore(seed: u64) -> Result<(), (Case, String)> {
    let mut chance = Chance::new(seed);
    let workers = 1 + chance.below(2);
    let mut case = Case {
        workers,
        flows_move: workers > 1 && chance.once_in(2),
        skew_ms: u64::from(chance.once_in(4)),
        has_control: chance.once_in(3),
        files: files::files(&mut chance),
        steps: Vec::new(),
    };
    let fault = playing(|| {
        let mut rig = Rig::new(&case);
        let mut recent = grammar::Recent::default();
        let mut bursts = 0;
        while bursts < BURSTS_PER_CASE {
            let step = step(&case, &recent, &mut chance);
            bursts += u64::from(matches!(step, Step::Burst { .. }));
            case.steps.push(step);
            rig.step(&case.steps[case.steps.len() - 1], &mut |frame| recent.note(frame));
        }
        rig.finish();
    });
    match fault {
        None => Ok(()),
        Some(fault) => Err((case, fault)),
    }
}

/// What happens next.
fn step(case: &Case, recent: &grammar::Recent, chance: &mut Chance) -> Step {
    match chance.below(40) {
        0 => Step::Reload(chance.below(case.files.len())),
        1 if chance.once_in(2) => Step::Master(chance.once_in(2)),
        2..6 => Step::Pass(chance.of(&[1, 1, 30, 300, 1_000, 2_500, 30_000, 1_000_000])),
        6 if chance.once_in(4) => Step::Dry(chance.once_in(3)),
        _ => {
            let port = usize::from(chance.once_in(3));
            let count = if chance.once_in(16) { 64 } else { 1 + chance.below(8) };
            let frames = (0..count).map(|_| grammar::frame(port, recent, chance)).collect();
            Step::Burst { worker: chance.below(case.workers), port, frames }
        }
    }
}

/// What goes wrong in a case that is there as a whole.
fn fault_of(case: &Case) -> Option<String> {
    playing(|| {
        let mut rig = Rig::new(case);
        case.steps.iter().for_each(|step| rig.step(step, &mut |_| {}));
        rig.finish();
    })
}

/// Runs `play` and gives the panic that ended it, if one did, without a word on standard error.
fn playing(play: impl FnOnce()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_PLAYING.get() { FAULT.set(info.to_string()) } else { usual(info) }
        }));
    });
    IS_PLAYING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(play));
    IS_PLAYING.set(false);
    outcome.err().map(|_| FAULT.take())
}

/// Makes a case that fails small and writes it to a file.
fn keep(case: Case, seed: u64, fault: &str) -> PathBuf {
    // Another fault that shows on the way is another case.
    let place = |fault: &str| fault.lines().next().unwrap_or_default().to_owned();
    let small = case.shrunk(|case| fault_of(case).is_some_and(|other| place(&other) == place(fault)));
    let fault = fault_of(&small).unwrap_or_else(|| fault.to_owned());
    let directory = std::env::var_os("WEIR_FUZZ_CASES").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("weir-{seed:x}.json"));
    std::fs::write(&path, small.to_json(seed, &fault)).expect("a place for the case");
    path
}
