//! Every file of `testdata` with its report.
//!
//! Each `bad/NAME.toml` is refused with the words of `bad/NAME.report`; each `ok/NAME.toml` loads, with the
//! warnings of `ok/NAME.report` where there is one, or is refused for nothing but what is not served yet.
//! `WEIR_BLESS=1 cargo test -p weir-config` writes the
//! reports anew; read the difference before it is committed.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, as in tests themselves

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weir_config::report::{Report, Severity};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == extension));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn parse(file: &Path) -> Result<weir_config::Loaded, Report> {
    let text = std::fs::read_to_string(file).unwrap();
    weir_config::parse(&file.file_name().unwrap().to_string_lossy(), &text)
}

/// Compares a report with the file beside its configuration, which is absent for an empty one.
fn differs(file: &Path, report: &Report) -> bool {
    let expected_file = file.with_extension("report");
    let said = report.render(false);
    if std::env::var_os("WEIR_BLESS").is_some() {
        match said.is_empty() {
            true => drop(std::fs::remove_file(&expected_file)),
            false => std::fs::write(&expected_file, &said).unwrap(),
        }
    }
    let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
    if said != expected {
        println!("---- {}: expected\n{expected}\n---- said\n{said}", file.display());
    }
    said != expected
}

#[test]
fn bad_files_are_refused_with_their_report() {
    let mut different = 0;
    for file in files("bad", "toml") {
        let report = parse(&file).expect_err(&file.display().to_string());
        assert!(report.errors() > 0);
        different += usize::from(differs(&file, &report));
    }
    assert_eq!(different, 0, "reports differ from what testdata/bad expects");
}

#[test]
fn good_files_load_with_their_warnings() {
    let mut different = 0;
    for file in files("ok", "toml") {
        let report = parse(&file).map_or_else(|report| report, |loaded| loaded.warnings);
        let mut errors = report.problems().iter().filter(|problem| problem.severity == Severity::Error);
        assert!(errors.all(|error| error.message.ends_with("not served yet")), "{report}");
        different += usize::from(differs(&file, &report));
    }
    assert_eq!(different, 0, "warnings differ from what testdata/ok expects");
}

#[test]
fn no_report_is_left_without_its_file() {
    for folder in ["bad", "ok"] {
        for report in files(folder, "report") {
            assert!(report.with_extension("toml").exists(), "{}", report.display());
        }
    }
}

#[test]
fn every_problem_has_a_place_and_fits_a_log_line() {
    for file in files("bad", "toml") {
        let report = parse(&file).expect_err("a bad file");
        for problem in report.problems() {
            let is_whole_file = problem.message == "no [[port]] in the file";
            assert!(problem.place.is_some() || is_whole_file, "{}: {problem:?}", file.display());
        }
        for (severity, line) in report.one_liners() {
            assert!(!line.contains('\n') && line.len() < 400, "{line}");
            assert!(line.contains(".toml:") || severity == Severity::Error, "{line}");
        }
    }
}

#[test]
fn the_same_problem_is_said_once() {
    for file in files("bad", "toml") {
        let report = parse(&file).expect_err("a bad file");
        let mut seen = BTreeSet::new();
        for line in report.one_liners() {
            assert!(seen.insert(line.1.clone()), "{}: twice: {}", file.display(), line.1);
        }
    }
}

#[test]
fn the_annotated_example_of_the_documentation_loads() {
    let loaded = weir_config::load(&docs("weir.example.toml")).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(!loaded.config.virtual_servers.is_empty());
}

#[test]
fn the_reference_names_every_key() {
    let reference = std::fs::read_to_string(docs("configuration.md")).unwrap();
    let sections: Vec<&str> = reference.split("\n## ").flat_map(|part| part.split("\n### ")).collect();
    let tables = [
        "control",
        "http",
        "memory",
        "workers",
        "connections",
        "connections.timeouts",
        "schedulers",
        "sync",
        "port",
        "route",
        "neighbor",
        "mark",
        "virtual_server",
        "virtual_server.real_server",
        "virtual_server.health_check",
        "virtual_server.agent",
        "virtual_server.passive",
        "health",
        "vrrp",
        "vrrp.authentication",
        "vrrp.auth_hmac",
        "vrrp.track",
        "vrrp_sync_group",
        "announce",
    ];
    for table in tables {
        let is_about = |section: &&&str| {
            let title = section.lines().next().unwrap_or_default();
            title.contains(&format!("`[{table}]`")) || title.contains(&format!("`[[{table}]]`"))
        };
        let section = sections.iter().find(is_about).unwrap_or_else(|| panic!("no section of [{table}]"));
        for key in weir_config::keys_of(table).expect("a table of the file") {
            let is_table = reference.contains(&format!("[{table}.{key}]"));
            assert!(
                is_table || section.contains(&format!("`{key}`")),
                "no `{key}` in the section of [{table}]"
            );
        }
    }
    assert_eq!(weir_config::keys_of("nothing"), None);
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("docs").join(name)
}
