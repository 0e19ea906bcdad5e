//! The modules of the data path in their order: each knows those before it, and none behind.

use std::fs;
use std::path::{Path, PathBuf};

/// From what bytes mean to who calls whom; see invariant 15 of ARCHITECTURE.md.
const ORDER: [&str; 27] = [
    "address", "wire", "stats", "packet", "parse", "ftp", "sip", "clock", "limit", "conn", "pieces",
    "neighbor", "sched", "snapshot", "kept", "foretold", "classify", "rewrite", "reply", "punt", "capture",
    "desk", "director", "idle", "suspect", "vlan", "worker",
];
/// Files and folders that only tests have.
const TESTS: [&str; 3] = ["tests", "tests.rs", "golden.rs"];

#[test]
fn no_module_imports_one_behind_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > ORDER.len(), "the sources are where they are looked for");
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut found = Vec::new();
    let mut imports = 0;
    for file in files {
        let inside = file.strip_prefix(&root).expect("a file of src");
        let module =
            inside.iter().next().and_then(|first| Path::new(first).file_stem()?.to_str()).expect("a name");
        if module == "lib" {
            continue;
        }
        let own = place(module).unwrap_or_else(|| panic!("{module} has no place in ORDER yet"));
        let text = fs::read_to_string(&file).expect("a text");
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in
            product.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for path in line.split("crate::").skip(1) {
                let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
                imports += 1;
                match place(&path[..end]) {
                    Some(other) if other <= own => {}
                    Some(_) => found.push(format!("{}:{}: {}", inside.display(), number + 1, line.trim())),
                    None => panic!("{}:{}: no module of ORDER: {line}", inside.display(), number + 1),
                }
            }
        }
    }
    assert!(imports > 200, "only {imports} imports were read");
    assert!(found.is_empty(), "upward imports:\n{}", found.join("\n"));
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| TESTS.iter().any(|test| name == *test)) {
            continue;
        }
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
