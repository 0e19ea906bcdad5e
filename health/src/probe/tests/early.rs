//! Answers that come before the question was read, or end in another way than with the peer's good-bye.

use super::*;

/// Answers at once, closes, and never reads: the request that comes then is answered by a reset. Often enough each of the orders in
/// which that may reach weir occurs.
fn hasty(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream| drop(stream.write_all(answer)))
}

/// Reads a part of the request, answers, and closes with the rest unread: a reset follows the answer at once.
fn careless(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream| {
        let _ = stream.read(&mut [0; 4]);
        let _ = stream.write_all(answer);
    })
}

/// Closes its side behind the answer and waits for weir to close its own.
fn half_closing(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream| {
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0; 16]);
    })
}

#[track_caller]
fn always(lines: &str, at: SocketAddr, result: Outcome, detail: &str) {
    for _ in 0..60 {
        expect(&outcome(lines, at), result, detail);
    }
}

#[test]
fn an_early_complete_answer_of_http_is_an_answer() {
    let with_length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let without = b"HTTP/1.0 200 OK\r\n\r\nok";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let plain = "type = \"http\"";
    let body = "type = \"http\"\nexpect_body_regex = \"^ok$\"";
    for answer in [&with_length[..], without, chunked] {
        for at in [hasty(answer), careless(answer), half_closing(answer)] {
            always(plain, at, Outcome::Success, "status 200");
            always(body, at, Outcome::Success, "status 200");
        }
    }
    let sick = hasty(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    always(plain, sick, Outcome::Unexpected, "status 503");
    // A length is a promise, and a reset does not keep it.
    let short = careless(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok");
    always(body, short, Outcome::Closed, "closed before the answer was complete");
    let cut = careless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    always(body, cut, Outcome::Closed, "closed before the answer was complete");
    always(plain, careless(b"HTTP/1.1 20"), Outcome::Closed, "closed before the answer was complete");
}

#[test]
fn who_says_nothing_and_leaves_has_not_answered() {
    let asking = ["type = \"http\"", "type = \"tcp\"\nsend = \"PING\"\nexpect = \"PONG\""];
    for lines in asking.into_iter().chain(["type = \"smtp\""]) {
        assert_eq!(outcome(lines, hasty(b"")).outcome, Outcome::Closed, "{lines}");
    }
    for lines in asking {
        assert_eq!(outcome(lines, careless(b"")).outcome, Outcome::Closed, "{lines}");
    }
}

#[test]
fn an_early_complete_answer_of_other_protocols_is_an_answer() {
    let tcp =
        "type = \"tcp\"\nsend = \"PING, and much more than the server cares to read\"\nexpect = \"PONG\"";
    for at in [hasty(b"+PONG\r\n"), careless(b"+PONG\r\n"), half_closing(b"+PONG\r\n")] {
        always(tcp, at, Outcome::Success, "answered as expected");
    }
    always(tcp, careless(b"-ERR\r\n"), Outcome::Unexpected, "closed after \"-ERR");
    let smtp = "type = \"smtp\"";
    always(smtp, hasty(b"220 mx\r\n250-mx\r\n250 OK\r\n"), Outcome::Success, "answered EHLO");
    always(
        smtp,
        hasty(b"220 mx\r\n250-mx\r\n"),
        Outcome::Closed,
        "closed before the end of the answer to EHLO",
    );
    for at in [hasty(b"up 50%\n"), careless(b"up 50%"), half_closing(b"up 50%")] {
        for _ in 0..60 {
            assert_eq!(asked(at, b"weir, which is not read").weight, Some(Weight::Percent(50)));
        }
    }
}

/// What an agent says.
fn asked(at: SocketAddr, send: &[u8]) -> Answer {
    let timeout = Duration::from_secs(20);
    let (interval, send) = (Duration::from_secs(1), send.to_vec());
    let agent = weir_config::model::health::Agent { port: at.port(), address: None, send, interval, timeout };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Probes::new(None, Arc::new(NoWay)).run(&Key::Agent(Arc::new(agent), at)))
}

#[test]
fn a_mail_server_that_knows_no_ehlo_is_asked_by_helo() {
    let old = |ehlo: &'static str, helo: &'static str| {
        server(move |mut stream| {
            let _ = stream.write_all(b"220 mx\r\n");
            let mut line = [0; 512];
            while let Ok(count @ 1..) = stream.read(&mut line) {
                let answer = match &line[..count] {
                    line if line.starts_with(b"EHLO weir.invalid\r\n") => ehlo,
                    line if line.starts_with(b"HELO weir.invalid\r\n") => helo,
                    _ => "221 bye\r\n",
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        })
    };
    let smtp = "type = \"smtp\"";
    expect(&outcome(smtp, old("502 what?\r\n", "250 mx\r\n")), Outcome::Success, "greeted and answered HELO");
    expect(
        &outcome(smtp, old("500 what?\r\n", "550 no\r\n")),
        Outcome::Unexpected,
        "unexpected answer to HELO: \"550 no",
    );
    expect(
        &outcome(smtp, old("421 busy\r\n", "250 mx\r\n")),
        Outcome::Unexpected,
        "unexpected answer to EHLO: \"421 busy",
    );
}
