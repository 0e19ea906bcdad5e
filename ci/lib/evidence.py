"""What a failed test leaves behind: the directories that it used, kept under its name.

A harness says where a run keeps its files (`note`) and when nobody needs them any more (`ended`). The runner of the
tests has them copied when a test fails (`keep`) and removes them when it is over (`clear`).
"""

import atexit
import os
import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# A failed test's files are small; a whole run that fails must not fill the disk for all that.
KEPT_MAX = 40

_used = {}
_ended = []
_kept = {}


def place():
    """Where evidence is kept: `$WEIR_EVIDENCE`, else beside what was built."""
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    return pathlib.Path(os.environ.get("WEIR_EVIDENCE", f"{target}/evidence"))


def note(path, before=None):
    """A directory in use; `before` is called before it is copied, to write what is still in memory."""
    _used[pathlib.Path(path)] = before


def ended(path):
    """Nobody writes there any more. It is there until the test is over."""
    path = pathlib.Path(path)
    before = _used.pop(path, None)
    if before:
        before()
    _ended.append(path)


def keep(test, error):
    """Copies all directories of the running test, and says in the error where they are."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", test)[:120]
    if name not in _kept and len(_kept) < KEPT_MAX:
        _kept[name] = place() / name
        shutil.rmtree(_kept[name], ignore_errors=True)
        for before in filter(None, _used.values()):
            before()
        for number, path in enumerate([*_ended, *_used]):
            shutil.copytree(path, _kept[name] / f"{number}-{path.name}", ignore=_no_files, dirs_exist_ok=True)
    if name in _kept:
        error.add_note(f"evidence (files, logs, captures) is in {_kept[name]}")


def _no_files(directory, names):
    """Sockets, pipes and what has just gone."""
    paths = [pathlib.Path(directory, name) for name in names]
    return [path.name for path in paths if not (path.is_dir() or path.is_file())]


def clear():
    """Removes what ended runs have left."""
    while _ended:
        shutil.rmtree(_ended.pop(), ignore_errors=True)


atexit.register(clear)
