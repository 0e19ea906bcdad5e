//! A mail server's greeting and its answer to EHLO, or to HELO where it knows no EHLO (RFC 5321 sections 3.1, 3.2 and 4.2).

use tokio::net::TcpStream;

use super::connect::{self, read_until};
use super::matching::shown;
use super::{ANSWER_BYTES_MAX, Failure, Found, Success, Target};
use crate::judge::Outcome;

pub(super) async fn check(target: &Target, helo: &str) -> Found {
    let mut talk = Conversation { stream: connect::tcp(target).await?, heard: Vec::new() };
    let response = target.timeouts.response;
    let greeting = talk.reply("greeting");
    expect("greeting", "220", target.limits.stage(response, "greeting", greeting).await?)?;
    let ask = |hello: &'static str| (format!("{hello} {helo}\r\n"), format!("answer to {hello}"));
    let (line, what) = ask("EHLO");
    let mut hello = ("EHLO", target.limits.stage(response, &what, talk.ask(&line, &what)).await?);
    // RFC 5321 section 3.2: a server that refuses EHLO is greeted as those before RFC 1869 know it.
    if hello.1.starts_with(b"5") {
        let (line, what) = ask("HELO");
        hello = ("HELO", target.limits.stage(response, &what, talk.ask(&line, &what)).await?);
    }
    let (word, answer) = hello;
    expect(&format!("answer to {word}"), "250", answer)?;
    // Good manners; what comes of it does not matter.
    let _ = target.limits.stage(response, "answer to QUIT", talk.ask("QUIT\r\n", "answer to QUIT")).await;
    Ok(Success::new(format!("greeted and answered {word}")))
}

fn expect(what: &str, code: &str, reply: Vec<u8>) -> Result<(), Failure> {
    if reply.starts_with(code.as_bytes()) {
        return Ok(());
    }
    Err(Failure::new(Outcome::Unexpected, format!("unexpected {what}: {}", shown(&reply))))
}

/// What was read and not looked at yet stays: a server may answer before it was asked.
struct Conversation {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Conversation {
    async fn ask(&mut self, line: &str, what: &str) -> Result<Vec<u8>, Failure> {
        connect::say(&mut self.stream, line.as_bytes()).await?;
        self.reply(what).await
    }

    /// The next reply, which may have several lines.
    async fn reply(&mut self, what: &str) -> Result<Vec<u8>, Failure> {
        let is_whole = |heard: &[u8]| reply_bytes(heard).is_some();
        let is_closed = read_until(&mut self.stream, &mut self.heard, ANSWER_BYTES_MAX, is_whole).await?;
        match (reply_bytes(&self.heard), is_closed) {
            (Some(bytes), _) => {
                let rest = self.heard.split_off(bytes);
                Ok(std::mem::replace(&mut self.heard, rest))
            }
            (None, true) => {
                Err(Failure::new(Outcome::Closed, format!("closed before the end of the {what}")))
            }
            (None, false) => {
                Err(Failure::new(Outcome::Unexpected, format!("endless {what}: {}", shown(&self.heard))))
            }
        }
    }
}

/// How long the first reply is. Its last line has a blank, or nothing, behind its code; the others have a dash.
fn reply_bytes(heard: &[u8]) -> Option<usize> {
    let mut bytes = 0;
    for line in heard.split_inclusive(|byte| *byte == b'\n') {
        bytes += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(bytes);
        }
    }
    None
}
