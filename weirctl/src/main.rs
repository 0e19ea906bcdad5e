//! `weirctl`, and `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore` where it is linked to these names.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|it| it.to_string_lossy().into_owned()).collect();
    weirctl::main(&arguments)
}
