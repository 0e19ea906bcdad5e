//! What HTTP checks ask, and how they look at large answers.

use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Answers every request with 200 and "ok", and hands on what was asked, head and body.
fn noting() -> (SocketAddr, Receiver<String>) {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    let at = server(move |mut stream| {
        let mut asked = String::new();
        let mut piece = [0; 2048];
        let is_whole = |asked: &str| {
            let Some((head, body)) = asked.split_once("\r\n\r\n") else { return false };
            let length = head
                .to_ascii_lowercase()
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.lines().next().unwrap_or_default().parse().unwrap_or(0));
            body.len() >= length
        };
        while !is_whole(&asked) {
            match stream.read(&mut piece) {
                Ok(count @ 1..) => asked += &String::from_utf8_lossy(&piece[..count]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = sender.lock().unwrap().send(asked);
    });
    (at, receiver)
}

#[test]
fn a_request_is_as_the_file_says() {
    let (at, asked) = noting();
    let lines = "type = \"http\"\nmethod = \"POST\"\nrequest_body = \"{}\"\nbasic_auth = \"Aladdin:open sesame\"\n\
                 request_header = [\"User-Agent: probe\", \"Content-Type: application/json\"]\nhost = \"www.example.org\"";
    expect(&outcome(lines, at), Outcome::Success, "status 200");
    let asked = asked.recv_timeout(Duration::from_secs(20)).unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    assert_eq!((fields.remove(0).as_str(), body), ("post / http/1.1", "{}"));
    fields.sort();
    // RFC 7617 section 2 has these credentials.
    let expected = [
        "authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq==",
        "connection: close",
        "content-length: 2",
        "content-type: application/json",
        "host: www.example.org",
        "user-agent: probe",
    ];
    assert_eq!(fields, expected);
    assert!(head.contains("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "{head}");
}

#[test]
fn several_pages_are_asked_for_and_each_must_be_as_expected() {
    let at = server(|mut stream| {
        let mut request = [0; 2048];
        let count = stream.read(&mut request).unwrap_or(0);
        let path =
            String::from_utf8_lossy(&request[..count]).split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = match path.as_str() {
            "/gone" => "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "/a" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            _ => "HTTP/1.1 204 OK\r\n\r\n",
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let pages = |url: &str| outcome(&format!("type = \"http\"\n{url}"), at);
    let good = "url = [{ path = \"/a\", expect_body = \"a\" }, { path = \"/gone\", status = [404] }, { path = \"/b\" }]";
    expect(&pages(good), Outcome::Success, "3 pages are as expected");
    let gone = "url = [{ path = \"/a\" }, { path = \"/gone\" }]";
    expect(&pages(gone), Outcome::Unexpected, "/gone: status 404, expected 200-299");
    let default = "status = [204]\nurl = [{ path = \"/b\" }, { path = \"/a\" }]";
    expect(&pages(default), Outcome::Unexpected, "/a: status 200, expected 204");
    let body = "url = [{ path = \"/a\", expect_body = \"b\" }]";
    expect(&pages(body), Outcome::Unexpected, "no \"b\" in the body");
}

#[test]
fn a_head_may_have_many_fields_and_one_that_is_too_large_is_said_to_be() {
    let head = |count: usize| {
        let fields: String = (0..count).map(|number| format!("X-{number}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}Last: one\r\nContent-Length: 0\r\n\r\n")
    };
    let serve = |text: String| answering(text.leak().as_bytes(), true);
    let lines = "type = \"http\"\nexpect_header = [\"Last: one\"]";
    expect(&outcome(lines, serve(head(1000))), Outcome::Success, "status 200");
    let large = outcome(lines, serve(head(20_000)));
    expect(
        &large,
        Outcome::Unexpected,
        "the head of the answer is larger than 64 KiB or has more than 4096 fields",
    );
}

#[test]
fn folded_lines_of_a_head_are_blanks() {
    let answers: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\nX-Long: one\n two\n\tthree\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long:\r\n one two\r\n  three\r\n\r\nok",
    ];
    for answer in answers {
        let at = answering(answer, true);
        expect(&outcome("type = \"http\"\nexpect_body = \"ok\"", at), Outcome::Success, "status 200");
        let pattern = "type = \"http\"\nexpect_header_regex = [\"X-Long: ^one +two +three$\"]";
        expect(&outcome(pattern, at), Outcome::Success, "status 200");
    }
}

#[test]
fn a_field_that_is_none_is_named() {
    let differ = "two header fields \"Content-Length\" that differ, \"2\" and \"3\"";
    let length = |text: &str| format!("the header field \"Content-Length\" is \"{text}\", not a number");
    for (head, why) in [
        ("1.1 200 OK\r\nX-Good: 1\r\nX-Odd: a\u{1}b", "the header field \"X-Odd\" holds a control character"),
        ("1.1 200 OK\r\nX-Good: 1\r\nX Odd: 1", "\"X Odd\" is no name of a header field"),
        ("1.1 200 OK\r\nX-Good: 1\r\nX-Odd : 1", "\"X-Odd \" is no name of a header field"),
        ("1.1 200 OK\r\nX-Good: 1\r\nhunter2", "the line behind the header field \"X-Good\" has no colon"),
        ("1.1 200 OK\r\nhunter2", "the first header line has no colon"),
        ("1.1 200 OK\r\nContent-Length: 2x", &length("2x")),
        ("1.1 200 OK\r\nContent-Length:", &length("")),
        ("1.1 200 OK\r\nContent-Length: 2, x", &length("x")),
        ("1.1 200 OK\r\nContent-Length: +2", &length("+2")),
        ("1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3", differ),
        ("1.1 200 OK\r\nContent-Length: 2, 3", differ),
        (
            "1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: x",
            "the header field \"Transfer-Encoding\" in an answer of HTTP/1.0",
        ),
        // It says nothing of the end, which the connection's is then.
        ("1.1 200 OK\r\nTransfer-Encoding: gzip\r\nX Odd: 1", "\"X Odd\" is no name of a header field"),
        ("1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX Odd: 1", "\"X Odd\" is no name of a header field"),
        ("1.1 100 Continue\r\nX Odd: 1", "\"X Odd\" is no name of a header field"),
    ] {
        let text = format!("HTTP/{head}\r\n\r\nok");
        let answer = outcome("type = \"http\"", answering(text.leak().as_bytes(), true));
        expect(&answer, Outcome::Unexpected, &format!("not an HTTP answer: {why}"));
        assert!(!answer.detail.contains("hunter2"), "{answer:?}");
    }
}

#[test]
fn lengths_that_are_the_same_and_other_encodings_are_good() {
    for head in [
        "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
        "1.1 200 OK\r\nContent-Length: 2, 2",
        "1.1 200 OK\r\nTransfer-Encoding: gzip",
        "1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2",
    ] {
        let text = format!("HTTP/{head}\r\n\r\nok");
        let answer =
            outcome("type = \"http\"\nexpect_body = \"ok\"", answering(text.leak().as_bytes(), true));
        expect(&answer, Outcome::Success, "status 200");
    }
}

#[test]
fn what_is_said_of_a_page_holds_no_query() {
    let sick = answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", true);
    let pages = outcome("type = \"http\"\nurl = [{ path = \"/a?key=hunter2\" }, { path = \"/b\" }]", sick);
    expect(&pages, Outcome::Unexpected, "/a: status 503");
    assert!(!pages.detail.contains("hunter2"), "{pages:?}");
}

/// A body that matches nearly everywhere is looked at beside other checks, which go on meanwhile.
#[test]
fn a_large_body_that_nearly_matches_holds_nobody_up() {
    let body = "a".repeat(16 << 20);
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let large = answering(text.leak().as_bytes(), true);
    let nearly = "a".repeat(1000) + "b";
    let check = |lines: &str| {
        checked(&format!("type = \"http\"\nbody_limit = 16777216\n{lines}\ntimeout = 60"), large)
    };
    let text = check(&format!("expect_body = \"{nearly}\""));
    // Matching takes seconds without optimization, and the more so the more the machine has to do.
    let pattern = check("expect_body_regex = \"(a|aa)+(b|cc)$\"");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (found, longest) = runtime.block_on(async {
        let probes = Arc::new(Probes::new(None, Arc::new(NoWay)));
        let run = |key: Key| {
            let probes = probes.clone();
            tokio::spawn(async move { probes.run(&key).await })
        };
        let both = [run(text), run(pattern)];
        let mut longest = Duration::ZERO;
        while both.iter().any(|check| !check.is_finished()) {
            tokio::task::yield_now().await;
            let before = own_time();
            tokio::task::yield_now().await;
            longest = longest.max(own_time() - before);
        }
        let [text, pattern] = both;
        ([text.await.unwrap(), pattern.await.unwrap()], longest)
    });
    expect(&found[0], Outcome::Unexpected, "in the body");
    expect(&found[1], Outcome::Unexpected, "in the body");
    // Processor time of this thread, so that what else the machine does is not counted.
    assert!(longest < Duration::from_millis(100), "{longest:?} without a pause");
}

/// Processor time that this thread has taken.
fn own_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// A server that never comes to its answer fails, and the checks of others go on meanwhile.
#[test]
fn interim_answers_without_end_are_no_answer() {
    let interim = |text: &'static [u8]| {
        server(move |mut stream| {
            let _ = stream.read(&mut [0; 2048]);
            let many = text.repeat(1000);
            while stream.write_all(&many).is_ok() {}
        })
    };
    for text in [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n"] {
        let answer = outcome("type = \"http\"", interim(text));
        expect(&answer, Outcome::Unexpected, "more than 100 interim answers (status 1xx)");
    }
    let many = [&b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n".repeat(5000)[..], b"HTTP/1.1 204 No\r\n\r\n"].concat();
    let answer = outcome("type = \"http\"", answering(many.leak(), false));
    expect(&answer, Outcome::Unexpected, "more than 100 interim answers (status 1xx)");
    let large = format!("HTTP/1.1 103 Early\r\nA: {}\r\n\r\n", "b".repeat(1000)).repeat(99);
    let answer = outcome("type = \"http\"", answering(large.leak().as_bytes(), false));
    expect(
        &answer,
        Outcome::Unexpected,
        "interim answers (status 1xx) and the head of the answer are larger than 64 KiB",
    );
    let some = [&b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n".repeat(100)[..], b"HTTP/1.1 204 No\r\n\r\n"].concat();
    let answer = outcome("type = \"http\"\nstatus = [204]", answering(some.leak(), false));
    expect(&answer, Outcome::Success, "status 204");
}
