//! Checks against servers of this process that behave as they are told, over real sockets of the loopback device.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Instant as Clock;

use weir_config::model::Config;

use super::*;
use crate::judge::target::Key;
use crate::way::NoWay;

mod early;
mod faults;
mod secured;
mod web;

/// What weir makes of a check with these lines, of this address.
fn outcome(lines: &str, at: SocketAddr) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Probes::new(None, Arc::new(NoWay)).run(&checked(lines, at)))
}

/// A check with these lines, of this address.
fn checked(lines: &str, at: SocketAddr) -> Key {
    // Where no time is asked for, none runs out on a busy machine.
    let timeout = if lines.contains("\ntimeout") { "" } else { "timeout = 20" };
    let text = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/16\"]\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = {}\nforwarding = \"nat\"\n\
         [virtual_server.health_check]\n{timeout}\n{lines}\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n",
        at.port().max(1)
    );
    let config: Config = weir_config::parse("t", &text).unwrap_or_else(|report| panic!("{report}")).config;
    Key::Check(config.virtual_servers[0].real_servers[0].health_checks[0].clone(), at.into())
}

/// A server with a thread for each connection.
fn server(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    at
}

/// Reads a request and gives this answer, whole or not, and then closes, or not.
fn answering(answer: &'static [u8], closes: bool) -> SocketAddr {
    server(move |mut stream| {
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(answer);
        if !closes {
            thread::sleep(Duration::from_secs(2));
        }
    })
}

/// A port that nobody listens on.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[track_caller]
fn expect(answer: &Answer, outcome: Outcome, detail: &str) {
    assert_eq!(answer.outcome, outcome, "{answer:?}");
    assert!(answer.detail.contains(detail), "{answer:?}");
}

#[test]
fn tcp_connects_and_converses() {
    let at = server(|mut stream| {
        // The first check is gone before.
        let _ = stream.write_all(b"+PONG\r\n");
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = stream.read(&mut [0; 64]);
    });
    expect(&outcome("type = \"tcp\"", at), Outcome::Success, "connected");
    expect(
        &outcome("type = \"tcp\"\nsend = \"PING\"\nexpect = \"PONG\"", at),
        Outcome::Success,
        "as expected",
    );
    expect(&outcome("type = \"tcp\"\nexpect_hex = \"2b XX 4f\"", at), Outcome::Success, "as expected");
    let other = outcome("type = \"tcp\"\nexpect = \"OK\"", at);
    expect(&other, Outcome::Unexpected, "closed after \"+PONG\\r\\n\"");
    expect(&outcome("type = \"tcp\"", closed_port()), Outcome::Refused, "connection refused");
}

#[test]
fn a_stage_that_takes_too_long_is_named() {
    let silent = server(|_stream| thread::sleep(Duration::from_secs(2)));
    let begun = Clock::now();
    let answer = outcome("type = \"tcp\"\nexpect = \"x\"\nresponse_timeout = 0.1\ntimeout = 20", silent);
    expect(&answer, Outcome::Timeout, "no expected answer within 0.1 s");
    assert!(begun.elapsed() < Duration::from_secs(10), "its own limit, not that of the whole");
    expect(
        &outcome("type = \"http\"\ntimeout = 0.5", silent),
        Outcome::Timeout,
        "no complete answer within 0.5 s",
    );
    expect(
        &outcome("type = \"https\"\ntls_timeout = 0.2\ntimeout = 20", silent),
        Outcome::Timeout,
        "no TLS handshake within 0.2 s",
    );
    expect(&outcome("type = \"smtp\"\ntimeout = 0.5", silent), Outcome::Timeout, "no greeting within 0.5 s");
}

#[test]
fn http_is_judged_by_status_headers_and_body() {
    let at = answering(
        b"HTTP/1.1 200 OK\r\nServer: nginx/1.2\r\nContent-Length: 12\r\nX: a\r\nX: b\r\n\r\nAll is well\n",
        true,
    );
    expect(&outcome("type = \"http\"", at), Outcome::Success, "status 200");
    let good = [
        "expect_header = [\"server: nginx\", \"x: b\"]\nexpect_body = \"is well\"",
        "expect_header_regex = [\"Server: ^nginx/[0-9.]+$\"]\nexpect_body_regex = \"(?i)ALL\"",
        "expect_sha256 = \"1b70ee5e1e0f5bd1f3d9e4fdcdd4e1e2f0f2bb3b1d5e4a0b5bb5f1dc4c0d6b7e\"",
    ];
    for lines in &good[..2] {
        expect(&outcome(&format!("type = \"http\"\n{lines}"), at), Outcome::Success, "status 200");
    }
    let digest = outcome(&format!("type = \"http\"\n{}", good[2]), at);
    expect(&digest, Outcome::Unexpected, "SHA-256 is ");
    let found = digest.detail.rsplit(' ').next().unwrap();
    let right = format!("type = \"http\"\nexpect_sha256 = \"{found}\"");
    expect(&outcome(&right, at), Outcome::Success, "status 200");
    let short = format!("{right}\nbody_limit = 11");
    expect(&outcome(&short, at), Outcome::Unexpected, "longer than 11 bytes");
    // As `printf 'All is well\n' | md5sum` and `sha256sum` print them.
    let both = "type = \"http\"\nexpect_md5 = \"04ddcc2bb6c5d7abc80f7a209f1f6af0\"\nexpect_sha256 = \"98694393a6f6349e4d3ea8018ff401660219ca900b09489b152f560cbca39d77\"";
    expect(&outcome(both, at), Outcome::Success, "status 200");
    let other = both.replace("04ddcc2bb6c5d7abc80f7a209f1f6af0", "d41d8cd98f00b204e9800998ecf8427e");
    expect(&outcome(&other, at), Outcome::Unexpected, "the body's MD5 is 04ddcc2bb6c5d7abc80f7a209f1f6af0");
    let bad = [
        ("status = [204, \"300-399\"]", "status 200, expected 204 or 300-399"),
        ("expect_header = [\"server: apache\"]", "no header server with \"apache\""),
        ("expect_header = [\"absent: \"]", "no header absent"),
        ("expect_body = \"ill\\\"\"", "no \"ill\\\"\" in the body \"All is well\\n\""),
        ("expect_body_regex = \"^well\"", "no /^well/ in the body"),
    ];
    for (lines, detail) in bad {
        expect(&outcome(&format!("type = \"http\"\n{lines}"), at), Outcome::Unexpected, detail);
    }
}

#[test]
fn broken_http_is_told_apart() {
    let half = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", true);
    expect(&outcome("type = \"http\"", half), Outcome::Success, "status 200");
    let body = "type = \"http\"\nexpect_body = \"whole\"";
    expect(&outcome(body, half), Outcome::Closed, "closed before the answer was complete");
    let head = answering(b"HTTP/1.1 200 O", true);
    expect(&outcome("type = \"http\"", head), Outcome::Closed, "closed before the answer was complete");
    let nothing = answering(b"", true);
    assert_eq!(outcome("type = \"http\"", nothing).outcome, Outcome::Closed);
    let noise = answering(b"SSH-2.0-OpenSSH_9.2\r\n", false);
    expect(&outcome("type = \"http\"", noise), Outcome::Unexpected, "not an HTTP answer");
    expect(&outcome("type = \"https\"", noise), Outcome::Tls, "TLS");
    let slow = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nslow", false);
    expect(&outcome(&format!("{body}\ntimeout = 0.5"), slow), Outcome::Timeout, "no complete answer");
}

#[test]
fn endless_answers_end() {
    let begun = Clock::now();
    let body = server(|mut stream| {
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    expect(&outcome("type = \"http\"", body), Outcome::Success, "status 200");
    expect(&outcome("type = \"http\"\nexpect_body = \"y\"", body), Outcome::Unexpected, "no \"y\"");
    let head = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"A: b\r\n").is_ok() {}
    });
    assert_ne!(outcome("type = \"http\"", head).outcome, Outcome::Success);
    let line = server(|mut stream| while stream.write_all(&[b'2'; 4096]).is_ok() {});
    expect(&outcome("type = \"smtp\"", line), Outcome::Unexpected, "endless greeting");
    expect(&outcome("type = \"tcp\"\nexpect = \"no\"", line), Outcome::Unexpected, "no match in");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn smtp_wants_220_and_250() {
    let talk = |greeting: &'static str, hello: &'static str| {
        server(move |mut stream| {
            let _ = stream.write_all(greeting.as_bytes());
            if stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(hello.as_bytes());
                let _ = stream.read(&mut [0; 512]);
            }
        })
    };
    let good = talk("220-mx\r\n220 ready\r\n", "250-mx\r\n250-SIZE\r\n250 OK\r\n");
    expect(&outcome("type = \"smtp\"", good), Outcome::Success, "greeted");
    let busy = talk("421 too busy\r\n", "");
    expect(&outcome("type = \"smtp\"", busy), Outcome::Unexpected, "unexpected greeting: \"421 too busy");
    let slow = talk("220 mx\r\n", "250-mx\r\n");
    expect(
        &outcome("type = \"smtp\"\ntimeout = 0.5", slow),
        Outcome::Timeout,
        "no answer to EHLO within 0.5 s",
    );
    let short = server(|mut stream| drop(stream.write_all(b"220 mx")));
    expect(&outcome("type = \"smtp\"", short), Outcome::Closed, "closed before the end of the greeting");
}

#[test]
fn udp_is_silent_answered_or_refused() {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = echo.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 512];
        while let Ok((count, from)) = echo.recv_from(&mut datagram) {
            let _ = echo.send_to(&datagram[..count], from);
        }
    });
    expect(&outcome("type = \"udp\"\nsend = \"ping\"\nexpect = \"ping\"", at), Outcome::Success, "answered");
    let other = outcome("type = \"udp\"\nsend = \"ping\"\nexpect = \"pong\"", at);
    expect(&other, Outcome::Unexpected, "unexpected answer: \"ping\"");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    expect(&outcome("type = \"udp\"\ntimeout = 0.5", at), Outcome::Success, "not refused");
    expect(
        &outcome("type = \"udp\"\nrequire_reply = true\ntimeout = 0.5", at),
        Outcome::Timeout,
        "no answer within 0.5 s",
    );
    drop(silent);
    expect(&outcome("type = \"udp\"\nsend = \"x\"", at), Outcome::Refused, "connection refused");
    expect(&outcome("type = \"dns\"", at), Outcome::Refused, "connection refused");
}

#[test]
fn programs_are_judged_by_their_status_and_killed_with_their_children() {
    let at = "127.0.0.1:80".parse().unwrap();
    let run = |script: &str, more: &str| {
        outcome(&format!("type = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n{more}"), at)
    };
    expect(&run("exit 0", ""), Outcome::Success, "status 0");
    expect(&run("echo trouble >&2; exit 1", ""), Outcome::Unexpected, "status 1: \"trouble\"");
    expect(&run("echo broken; exit 3", ""), Outcome::Unexpected, "status 3: \"broken\"");
    expect(
        &run("test $WEIR_ADDRESS:$WEIR_PORT = 127.0.0.1:80 && test -z \"$HOME\"", ""),
        Outcome::Success,
        "",
    );
    let weighed = run("exit 12", "dynamic_weight = true");
    assert_eq!((weighed.outcome, weighed.weight), (Outcome::Success, Some(Weight::Fixed(10))));
    assert_eq!(run("exit 1", "dynamic_weight = true").outcome, Outcome::Unexpected);
    expect(&run("kill -9 $$", ""), Outcome::Unexpected, "signal");
    expect(&run("yes | head -c 10000000", ""), Outcome::Success, "status 0");
    // The weight of 125 is told, but what shells end with when there is no such program is none.
    expect(&run("exit 127", "dynamic_weight = true"), Outcome::Error, "can't be run");
    // What is left in the background does not hold the check up.
    expect(&run("sleep 5 & exit 0", ""), Outcome::Success, "status 0");
    let missing = outcome("type = \"exec\"\ncommand = [\"/nonexistent/program\"]", at);
    expect(&missing, Outcome::Error, "/nonexistent/program");
    let mark = format!("weir-test-{}", std::process::id());
    let begun = Clock::now();
    let slow = run(
        &format!("sh -c \"sleep 30; : {mark}\" & setsid sh -c \"sleep 31; : {mark}\" & wait"),
        "timeout = 0.5",
    );
    expect(&slow, Outcome::Timeout, "no end of the program within 0.5 s");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let is_left = || {
        let listed = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.contains(&mark))
    };
    while is_left() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the child of the program is still there");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_weight_file_may_come_and_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = std::env::temp_dir().join(format!("weir-weight-{}", std::process::id()));
    let read = || runtime.block_on(Probes::new(None, Arc::new(NoWay)).run(&Key::File(path.clone())));
    assert_eq!(read().weight, Some(Weight::Configured));
    std::fs::write(&path, "50%\n").unwrap();
    assert_eq!((read().weight, read().says_down), (Some(Weight::Percent(50)), Some(false)));
    std::fs::write(&path, "nonsense").unwrap();
    assert_eq!((read().outcome, read().weight), (Outcome::Unexpected, None));
    std::fs::remove_file(&path).unwrap();
}

/// Whoever answers a byte at a time, or something else all the time, is waited for no longer than whoever is silent.
#[test]
fn who_drips_or_chatters_runs_into_the_same_limits() {
    let drip = |text: &'static [u8]| {
        server(move |mut stream| {
            for byte in text.iter().cycle() {
                thread::sleep(Duration::from_millis(20));
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        })
    };
    let begun = Clock::now();
    let slow = |lines: &str, at| outcome(&format!("{lines}\ntimeout = 0.5"), at);
    let head = drip(b"HTTP/1.1 200 OK\r\nX: y\r\nZ: ");
    expect(&slow("type = \"http\"", head), Outcome::Timeout, "no complete answer within 0.5 s");
    let multiline = drip(b"220-mx\r\n");
    expect(&slow("type = \"smtp\"", multiline), Outcome::Timeout, "no greeting within 0.5 s");
    let text = drip(b"not that ");
    let answer = slow("type = \"tcp\"\nexpect = \"PONG\"", text);
    expect(&answer, Outcome::Timeout, "no expected answer within 0.5 s");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    expect(&slow("type = \"dns\"", at), Outcome::Timeout, "no answer within 0.5 s");
    // Answers to questions that nobody asked.
    silent.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        let mut asked = None;
        while begun.elapsed() < Duration::from_secs(10) {
            if let Ok(last) = silent.recv_from(&mut question) {
                asked = Some(last);
                question[0] ^= 1;
                question[2] |= 0x80;
            }
            let _ = asked.map(|(count, from)| silent.send_to(&question[..count], from));
            thread::sleep(Duration::from_millis(1));
        }
    });
    expect(&slow("type = \"dns\"", at), Outcome::Timeout, "no answer within 0.5 s");
    let endless = "type = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"exec yes\"]";
    // A busy machine may not get to its start in that time, which is another answer.
    let ended =
        std::iter::repeat_with(|| slow(endless, at)).take(10).find(|answer| answer.outcome != Outcome::Error);
    expect(&ended.expect("it was never started"), Outcome::Timeout, "no end of the program within 0.5 s");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_agent_that_says_nothing_of_use_changes_nothing() {
    let ask = |at: SocketAddr| {
        let timeout = Duration::from_millis(500);
        let agent = weir_config::model::health::Agent {
            port: at.port(),
            address: None,
            send: b"weir\n".to_vec(),
            interval: Duration::from_secs(1),
            timeout,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Probes::new(None, Arc::new(NoWay)).run(&Key::Agent(Arc::new(agent), at)))
    };
    let telling = |text: &'static str, closes| answering(text.as_bytes(), closes);
    let told = ask(telling("50% up\n", false));
    assert_eq!((told.weight, told.says_down), (Some(Weight::Percent(50)), Some(false)));
    assert_eq!(ask(telling("down\r\n", true)).says_down, Some(true));
    let endless = server(|mut stream| while stream.write_all(&[b'u'; 4096]).is_ok() {});
    for (at, result) in [
        (closed_port(), Outcome::Refused),
        (telling("", true), Outcome::Closed),
        (telling("50%", false), Outcome::Timeout),
        (telling("half a word\n", true), Outcome::Unexpected),
        (endless, Outcome::Unexpected),
    ] {
        let told = ask(at);
        assert_eq!((told.outcome, told.weight, told.says_down), (result, None, None), "{told:?}");
    }
}
