//! A DNS question over UDP (RFC 1035 section 4).

use weir_config::model::health::DnsRecord;

use super::{ANSWER_BYTES_MAX, Failure, Found, Success, Target, connect};
use crate::judge::Outcome;

const HEADER_BYTES: usize = 12;
/// Names of response codes (RFC 1035 section 4.1.1).
const CODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/// Success is a response with code 0 to this very question; which records it holds is not looked at.
pub(super) async fn check(target: &Target, query: &str, record: DnsRecord) -> Found {
    let socket = connect::udp(target).await?;
    let id = target.token() as u16;
    let question = question(id, query, record);
    let converse = async {
        socket.send(&question).await.map_err(|problem| Failure::local("sending", &problem))?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        loop {
            let length = socket.recv(&mut answer).await;
            let length = length.map_err(|problem| Failure::io("waiting for an answer", &problem))?;
            // What answers another question may be late or forged, and is no answer to this one.
            if answer[..length].get(..2) == Some(&question[..2]) || length < HEADER_BYTES {
                return judge(&question, &answer[..length]);
            }
        }
    };
    target.limits.stage(target.timeouts.whole, "answer", converse).await
}

/// Header with recursion desired, and the question.
fn question(id: u16, query: &str, record: DnsRecord) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + query.len() + 6);
    message.extend(id.to_be_bytes());
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in query.split('.').filter(|label| !label.is_empty()) {
        // At most 63 bytes, as the configuration has checked.
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(record.number().to_be_bytes());
    message.extend([0, 1]);
    message
}

fn judge(question: &[u8], answer: &[u8]) -> Found {
    let unexpected = |detail: String| Err(Failure::new(Outcome::Unexpected, detail));
    if answer.len() < HEADER_BYTES {
        return unexpected(format!("unexpected answer of {} bytes", answer.len()));
    }
    if answer[2] & 0x80 == 0 {
        return unexpected("the question came back instead of an answer".to_owned());
    }
    match usize::from(answer[3] & 0x0f) {
        0 => {}
        code => {
            let name = CODES.get(code).map_or_else(|| format!("code {code}"), |name| (*name).to_owned());
            return unexpected(format!("answered {name}"));
        }
    }
    // Names are compared without regard to case (RFC 4343).
    let asked = &question[HEADER_BYTES..];
    let repeated = answer.get(HEADER_BYTES..question.len());
    if answer[4..6] != [0, 1] || !repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(asked)) {
        return unexpected("the answer is to another question".to_owned());
    }
    Ok(Success::new("answered NOERROR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_as_rfc_1035_writes_them() {
        let expected = [
            &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            b"\x03www\x07example\x03org\x00",
            &[0, 28, 0, 1],
        ]
        .concat();
        assert_eq!(question(0x1234, "www.example.org", DnsRecord::Aaaa), expected);
        assert_eq!(question(0, "", DnsRecord::Soa)[HEADER_BYTES..], [0, 0, 6, 0, 1]);
    }

    #[test]
    fn no_answer_makes_it_panic_and_only_the_right_one_is_right() {
        let question = question(7, "Example.org", DnsRecord::A);
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = judge(&question, bytes);
        });
        let mut answer = question.clone();
        assert!(judge(&question, &answer).is_err(), "an echo");
        answer[2] |= 0x80;
        assert!(judge(&question, &answer.to_ascii_lowercase()).is_ok());
        for end in 0..answer.len() {
            assert!(judge(&question, &answer[..end]).is_err(), "half of it: {end}");
        }
        answer[3] = 2;
        assert_eq!(judge(&question, &answer).unwrap_err().detail, "answered SERVFAIL");
    }
}
