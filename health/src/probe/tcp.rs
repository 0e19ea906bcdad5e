//! A TCP connection, and text over it if asked for.

use tokio::io::AsyncWriteExt;
use weir_config::model::health::Exchange;

use super::connect::{self, read_until};
use super::matching::{is_expected, shown};
use super::{ANSWER_BYTES_MAX, Failure, Found, Success, Target};
use crate::judge::Outcome;

pub(super) async fn check(target: &Target, exchange: &Exchange) -> Found {
    let mut stream = connect::tcp(target).await?;
    if exchange.send.is_empty() && exchange.expect.is_none() {
        return Ok(Success::new("connected"));
    }
    let converse = async {
        let Some(expected) = &exchange.expect else {
            let sent = stream.write_all(&exchange.send).await;
            return sent.map(|()| Success::new("sent")).map_err(|problem| Failure::io("sending", &problem));
        };
        connect::say(&mut stream, &exchange.send).await?;
        let is_enough = |answer: &[u8]| is_expected(expected, answer);
        let mut answer = Vec::new();
        let is_closed = read_until(&mut stream, &mut answer, ANSWER_BYTES_MAX, is_enough).await?;
        if is_expected(expected, &answer) {
            return Ok(Success::new("answered as expected"));
        }
        let (outcome, how) = match (is_closed, answer.is_empty()) {
            (true, true) => return Err(Failure::new(Outcome::Closed, "closed without an answer")),
            (true, false) => (Outcome::Unexpected, "closed after"),
            (false, _) => (Outcome::Unexpected, "no match in"),
        };
        Err(Failure::new(outcome, format!("unexpected answer: {how} {}", shown(&answer))))
    };
    target.limits.stage(target.timeouts.response, "expected answer", converse).await
}
