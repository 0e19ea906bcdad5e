//! A datagram, and its answer if one is wanted.

use weir_config::model::health::Exchange;

use super::matching::{is_expected, shown};
use super::{ANSWER_BYTES_MAX, Failure, Found, Success, Target, connect};
use crate::judge::Outcome;

/// Without a required answer, silence is success: what counts is that nobody says "port unreachable".
pub(super) async fn check(target: &Target, exchange: &Exchange, require_reply: bool) -> Found {
    let socket = connect::udp(target).await?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let converse = async {
        socket.send(&exchange.send).await.map_err(|problem| Failure::local("sending", &problem))?;
        socket.recv(&mut answer).await.map_err(|problem| Failure::io("waiting for an answer", &problem))
    };
    let length = match target.limits.stage(target.timeouts.whole, "answer", converse).await {
        Err(Failure { outcome: Outcome::Timeout, .. }) if !require_reply => {
            return Ok(Success::new("not refused"));
        }
        other => other?,
    };
    match &exchange.expect {
        Some(expected) if !is_expected(expected, &answer[..length]) => {
            let detail = format!("unexpected answer: {}", shown(&answer[..length]));
            Err(Failure::new(Outcome::Unexpected, detail))
        }
        _ => Ok(Success::new("answered")),
    }
}
