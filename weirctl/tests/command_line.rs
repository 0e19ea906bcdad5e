//! The program as it is typed: usage, its environment, files that keep it waiting.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};

fn weirctl(socket: Option<&str>, arguments: &[&str]) -> Command {
    let mut weirctl = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    weirctl.env_remove("WEIR_SOCKET").args(arguments);
    if let Some(socket) = socket {
        weirctl.env("WEIR_SOCKET", socket);
    }
    weirctl
}

fn said(Output { status, stderr, .. }: Output) -> (Option<i32>, String) {
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn usage_lines_ask_for_no_option_that_may_be_left_out() {
    for socket in [None, Some("/none/other.sock")] {
        for (arguments, usage) in [
            (&["connections", "--no-such"][..], "Usage: weirctl connections [OPTIONS]\n"),
            (&["drain", "web"], "Usage: weirctl drain <VIRTUAL_SERVER> <REAL_SERVER>\n"),
        ] {
            let (status, text) = said(weirctl(socket, arguments).output().unwrap());
            assert_eq!(status, Some(2), "{text}");
            assert!(text.contains(usage) && !text.contains("--socket"), "{socket:?}: {text}");
        }
    }
}

#[test]
fn an_option_names_the_socket_before_the_environment_does() {
    let asked = |socket, arguments| said(weirctl(socket, arguments).output().unwrap()).1;
    assert!(asked(Some("/none/a.sock"), &["status"]).contains("/none/a.sock"));
    assert!(asked(Some("/none/a.sock"), &["--socket", "/none/b.sock", "status"]).contains("/none/b.sock"));
    assert!(asked(Some(""), &["--socket", "/none/b.sock", "status"]).contains("/none/b.sock"));
}

#[test]
fn a_state_that_no_protocol_has_is_bad_usage() {
    let (status, text) = said(weirctl(None, &["connections", "--state", "FOO"]).output().unwrap());
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("SYN_RECV") && text.contains("S-ACK-SENT"), "{text}");
    // It gets as far as to ask.
    let known = ["--socket", "/none/a.sock", "connections", "--state", "established"];
    let (status, text) = said(weirctl(None, &known).output().unwrap());
    assert_eq!(status, Some(1), "{text}");
}

#[test]
fn who_waits_for_a_pipe_is_told_and_goes_on_when_it_is_written() {
    let fifo = std::env::temp_dir().join(format!("weirctl-fifo-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let name = fifo.to_str().unwrap();
    let mut waits =
        weirctl(None, &["check", name]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(waits.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let text = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/24\"]\n";
    std::fs::OpenOptions::new().write(true).open(&fifo).unwrap().write_all(text.as_bytes()).unwrap();
    let status = waits.wait().unwrap();
    let mut out = String::new();
    waits.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    std::fs::remove_file(&fifo).unwrap();
    assert!(line.starts_with(&format!("weirctl: {name} is waited for, for 5 s: ")), "{line}");
    assert_eq!((status.code(), out), (Some(0), format!("{name}: good\n")));
}
