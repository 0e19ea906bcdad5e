#!/usr/bin/python3
"""Public functions that the product never calls.

    ci/lib/unused.py BINARY [ALLOWED]

The compiler tells of private functions that nobody calls; of public ones it can't know. The linker can: it leaves out of
BINARY, a debug build of weir, what nothing leads to from `main`. So each `pub fn` of the crates that make weir must be among
the symbols of BINARY or stand in ALLOWED, a line each: `crate Type::function: reason`, and no line there may be stale.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ALLOWED = ROOT / "ci" / "lib" / "unused.allow"
# What weir is made of, by folder. `dpdk-sys` is generated.
CRATES = {"api": "weir_api", "config": "weir_config", "control": "weir_control", "dataplane": "weir_dataplane", "dpdk-bindings": "dpdk",
          "health": "weir_health", "sync": "weir_sync", "vrrp": "weir_vrrp"}
FUNCTION = re.compile(r"( *)pub (?:async |const |unsafe )*fn (\w+)")
IMPL = re.compile(r"impl\b(?:<.*?>(?= ))? *(?:.* for )?&?(?:\w+::)*(\w+)")
MODULE = re.compile(r"( *)(?:pub(?:\(\w+\))? )?mod (\w+) *(\{|;)")
TEST = re.compile(r" *#\[cfg\((?:test|all\(test|any\(test)")


def functions(path):
    """`[(type or "", function, line, is it only inlined)]` of a source file, without what is for tests."""
    found = []
    owner = ""
    skipped = None
    hidden = False
    inlined = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if skipped is not None:
            if line.strip() and indent <= skipped and line.lstrip().startswith("}"):
                skipped = None
            continue
        if TEST.match(line):
            hidden = True
        elif line.startswith("macro_rules!"):
            # What it makes is seen where it is used.
            skipped = indent
        elif line.lstrip().startswith("#[inline(always)]"):
            inlined = True
        elif line.strip() and not line.lstrip().startswith(("#", "//")):
            if hidden and line.rstrip().endswith("{"):
                skipped = indent
            elif not hidden:
                match = FUNCTION.match(line)
                if match:
                    found.append((owner if match.group(1) else "", match.group(2), number, inlined))
                elif indent == 0 and line.startswith("impl"):
                    match = IMPL.match(line)
                    owner = match.group(1) if match else ""
                elif indent == 0 and line.startswith("}"):
                    owner = ""
            hidden = inlined = False
    return found


def tests_only(folder):
    """Files of modules that are declared for tests alone."""
    found = set()
    for path in folder.rglob("*.rs"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in zip(lines, lines[1:]):
            match = MODULE.match(line)
            if match and match.group(3) == ";" and TEST.match(before):
                home = path.parent if path.stem in ("mod", "lib", "main") else path.parent / path.stem
                found |= {home / f"{match.group(2)}.rs", *(home / match.group(2)).rglob("*.rs")}
    return found


def linked(binary):
    """`{(crate, type or "", function)}` of what the linker has kept, inlined functions aside."""
    names = subprocess.run(["nm", "--demangle=rust", "--defined-only", binary], check=True, capture_output=True,
                           text=True).stdout
    found = set()
    for line in names.splitlines():
        name = line.split(" ", 2)[-1]
        name = re.sub(r"::h[0-9a-f]{16}$", "", name)
        name = re.sub(r"::<[^<>]*(?:<[^<>]*>[^<>]*)*>$", "", name)
        match = re.match(r"<?(?:impl )?(?:&)?(weir\w*|dpdk)(?:\[\w+\])?::", name)
        if match is None:
            continue
        crate = match.group(1)
        head, _, function = name.rpartition("::")
        # `path::<impl path::Type<T>>::function`, `path::Type<T>::function`, `<path::Type<T>>::function`.
        inherent = re.search(r"<impl ([^>]*?)(?:<.*)?>$", head)
        if inherent:
            head = inherent.group(1)
        elif head.startswith("<"):
            head = head[1:-1]
        owner = re.sub(r"<.*", "", head).rpartition("::")[2]
        found.add((crate, owner, function))
    return found


def allowed(path):
    """`{"crate Type::function": reason}`."""
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            entries[name] = reason
    return entries


def main():
    binary = sys.argv[1]
    exceptions = allowed(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else ALLOWED)
    kept = linked(binary)
    problems = []
    seen = set()
    for folder, crate in CRATES.items():
        source = ROOT / folder / "src"
        left_out = tests_only(source)
        for path in sorted(source.rglob("*.rs")):
            if path in left_out or "tests" in path.parts or path.stem == "tests":
                continue
            for owner, function, line, is_inlined in functions(path):
                # A function of a module is known by the module.
                name = f"{crate} {owner or module_of(path)}::{function}"
                is_kept = (crate, owner or module_of(path), function) in kept
                if name in exceptions:
                    seen.add(name)
                    if is_kept:
                        problems.append(f"{name} is called now: take it out of {ALLOWED.relative_to(ROOT)}")
                elif not is_kept and not is_inlined:
                    problems.append(f"{path.relative_to(ROOT)}:{line}: nothing in weir calls {name}")
    problems += [f"{name} is in {ALLOWED.relative_to(ROOT)} but there is no such function" for name in exceptions
                 if name not in seen]
    problems += [f"{name} has no reason in {ALLOWED.relative_to(ROOT)}" for name, reason in exceptions.items()
                 if not reason.strip()]
    print("\n".join(problems))
    return 1 if problems else 0


def module_of(path):
    """The last part of a module's path; that of the crate's root is the crate's."""
    if path.stem == "mod":
        return path.parent.name
    if path.stem in ("lib", "main"):
        return CRATES[path.relative_to(ROOT).parts[0]]
    return path.stem


if __name__ == "__main__":
    sys.exit(main())
