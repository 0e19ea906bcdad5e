//! Faults of the director's own are told apart from those of servers.

use super::*;

#[test]
fn what_the_director_lacks_is_an_error_and_no_failure() {
    let at = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
    let foreign = "source = \"192.0.2.1\"";
    for kind in ["tcp", "http", "https", "smtp", "udp", "dns"] {
        let answer = outcome(&format!("type = \"{kind}\"\n{foreign}"), at);
        expect(&answer, Outcome::Error, "cannot assign requested address");
    }
    // The kernel has no way there: class E, or none at all in a namespace without routes.
    let nowhere: SocketAddr = "255.255.255.254:80".parse().unwrap();
    for kind in ["tcp", "http", "udp", "dns"] {
        let answer = outcome(&format!("type = \"{kind}\"\ntimeout = 2"), nowhere);
        assert_ne!(answer.outcome, Outcome::Unreachable, "{answer:?}");
    }
    let program = "type = \"exec\"\ncommand = [\"/nonexistent/program\"]";
    expect(&outcome(program, at), Outcome::Error, "/nonexistent/program");
}

#[test]
fn what_the_system_says_is_sorted_by_whom_it_is_about() {
    let sorted = |errno: Errno| {
        let problem = io::Error::from_raw_os_error(errno.raw_os_error());
        (Failure::io("x", &problem).outcome, Failure::local("x", &problem).outcome)
    };
    assert_eq!(sorted(Errno::CONNREFUSED), (Outcome::Refused, Outcome::Refused));
    for of_the_server in [
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::ACCESS,
        Errno::MSGSIZE,
    ] {
        assert_eq!(sorted(of_the_server), (Outcome::Unreachable, Outcome::Error), "{of_the_server:?}");
    }
    for of_this_host in
        [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM, Errno::PERM]
    {
        assert_eq!(sorted(of_this_host), (Outcome::Error, Outcome::Error), "{of_this_host:?}");
    }
    for of_this_host in [Errno::AGAIN, Errno::ADDRINUSE, Errno::NETDOWN, Errno::INVAL] {
        assert_eq!(sorted(of_this_host), (Outcome::Error, Outcome::Error), "{of_this_host:?}");
    }
    // Without a number it is about what was read: from the server, or here.
    for kind in [ErrorKind::InvalidData, ErrorKind::InvalidInput, ErrorKind::Other] {
        let problem = io::Error::new(kind, "odd");
        let outcomes = (Failure::io("x", &problem).outcome, Failure::local("x", &problem).outcome);
        assert_eq!(outcomes, (Outcome::Unexpected, Outcome::Error), "{kind:?}");
        assert_eq!(tls::failure(&problem), Failure::new(Outcome::Tls, "TLS: odd"), "{kind:?}");
    }
    let of_rustls = |said: rustls::Error| tls::failure(&io::Error::new(ErrorKind::InvalidData, said)).outcome;
    assert_eq!(of_rustls(rustls::Error::DecryptError), Outcome::Tls);
    assert_eq!(of_rustls(rustls::Error::FailedToGetRandomBytes), Outcome::Error);
    assert_eq!(sorted(Errno::CONNRESET).0, Outcome::Closed);
    assert_eq!(sorted(Errno::TIMEDOUT).0, Outcome::Timeout);
}

/// Who sends a broken body is at fault, not the director that can't read it.
#[test]
fn a_broken_body_in_chunks_is_the_server_s_fault() {
    let long = "x".repeat(40_000);
    let many = "1;xxxxxxxx\r\na\r\n".repeat(4000);
    let trailers = "A: b\r\n".repeat(5000);
    let broken: [(&str, &str); 10] = [
        ("a size that is none", "zz\r\nhello\r\n0\r\n\r\n"),
        ("no chunk at all", "hello, world\r\n"),
        ("no CR behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("no CR behind the chunk", "5\r\nhello!!0\r\n\r\n"),
        ("a size that overflows", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a long extension", &format!("5;{long}\r\nhello\r\n0\r\n\r\n")),
        ("many extensions", &format!("{many}0\r\n\r\n")),
        ("a long trailer", &format!("5\r\nhello\r\n0\r\nA: {long}\r\n\r\n")),
        ("many trailers", &format!("5\r\nhello\r\n0\r\n{trailers}\r\n")),
        ("a trailer's name that is none", "5\r\nhello\r\n0\r\nA B: c\r\n\r\n"),
    ];
    for (what, body) in broken {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let at = answering(text.leak().as_bytes(), false);
        let answer = outcome("type = \"http\"\nexpect_body = \"hello\"", at);
        assert_eq!(answer.outcome, Outcome::Unexpected, "{what}: {answer:?}");
        assert!(answer.detail.starts_with("not an HTTP answer: "), "{what}: {answer:?}");
    }
}

#[test]
fn a_director_that_stood_still_blames_nobody() {
    let silent = server(|_stream| thread::sleep(Duration::from_secs(8)));
    let key = checked("type = \"tcp\"\nexpect = \"x\"\ntimeout = 0.3", silent);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let check = tokio::spawn(async move { Probes::new(None, Arc::new(NoWay)).run(&key).await });
        // The check has begun; from then on the thread that makes it is held up.
        tokio::time::sleep(Duration::from_millis(50)).await;
        thread::sleep(Duration::from_millis(1800));
        check.await.unwrap()
    });
    expect(&answer, Outcome::Error, "weir itself was held up for 1");
}

/// As a service manager starts weir with an account of its own and what it may do, which is handed on to what is started.
#[test]
fn programs_get_none_of_weir_s_privileges() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can hand privileges on; nothing was tried");
        return;
    }
    let shown =
        ["/bin/grep", "-E", "^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):", "/proc/self/status"].map(str::to_owned);
    let outer = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=+net_raw",
        "--ambient-caps=+net_raw",
        "--",
    ];
    let said = |command: &[String]| {
        let ended =
            std::process::Command::new("/usr/bin/setpriv").args(outer).args(command).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap().replace('\t', "")
    };
    assert!(said(&shown).contains("CapEff:0000000000002000"), "this is what is to be kept from programs");
    let none = "0000000000000000";
    let expected = format!("CapInh:{none}\nCapPrm:{none}\nCapEff:{none}\nCapAmb:{none}\nNoNewPrivs:1\n");
    assert_eq!(said(&exec::words(&shown, None, None)), expected);
    // The same from root.
    let words = exec::words(&shown, Some(&Account { user: 65_534, group: 65_534 }), None);
    let ended = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert_eq!(String::from_utf8(ended.stdout).unwrap().replace('\t', ""), expected);
}
