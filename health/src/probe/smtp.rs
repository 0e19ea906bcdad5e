//! A mail server's greeting and its answer to EHLO (RFC 5321 sections 3.1 and 4.2).

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connect::{self, read_until};
use super::matching::shown;
use super::{ANSWER_BYTES_MAX, Failure, Found, Success, Target};
use crate::judge::Outcome;

pub(super) async fn check(target: &Target, helo: &str) -> Found {
    let mut stream = connect::tcp(target).await?;
    let response = target.timeouts.response;
    target.limits.stage(response, "greeting", reply(&mut stream, "greeting", b"220")).await?;
    let hello = async {
        say(&mut stream, &format!("EHLO {helo}\r\n")).await?;
        reply(&mut stream, "answer to EHLO", b"250").await
    };
    target.limits.stage(response, "answer to EHLO", hello).await?;
    // Good manners; what comes of it does not matter.
    let quit = async {
        say(&mut stream, "QUIT\r\n").await?;
        reply(&mut stream, "answer to QUIT", b"221").await
    };
    let _ = target.limits.stage(response, "answer to QUIT", quit).await;
    Ok(Success::new("greeted and answered EHLO"))
}

async fn say(stream: &mut TcpStream, line: &str) -> Result<(), Failure> {
    stream.write_all(line.as_bytes()).await.map_err(|problem| Failure::io("sending", &problem))
}

/// Reads a reply, which may have several lines, and holds it to a code.
async fn reply(stream: &mut TcpStream, what: &str, code: &[u8; 3]) -> Result<(), Failure> {
    let (answer, is_closed) = read_until(stream, ANSWER_BYTES_MAX, is_whole).await?;
    if is_whole(&answer) {
        // Whoever says more than one reply does not wait for its turn.
        let ends =
            answer.split_inclusive(|byte| *byte == b'\n').filter(|line| line.get(3) != Some(&b'-')).count();
        if answer.starts_with(code) && ends == 1 {
            return Ok(());
        }
        return Err(Failure::new(Outcome::Unexpected, format!("unexpected {what}: {}", shown(&answer))));
    }
    match is_closed {
        true => Err(Failure::new(Outcome::Closed, format!("closed before the end of the {what}"))),
        false => Err(Failure::new(Outcome::Unexpected, format!("endless {what}: {}", shown(&answer)))),
    }
}

/// The last line of a reply has a blank, or nothing, behind its code; the others have a dash.
fn is_whole(answer: &[u8]) -> bool {
    let Some(body) = answer.strip_suffix(b"\n") else { return false };
    let last = body.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.get(3) != Some(&b'-')
}
