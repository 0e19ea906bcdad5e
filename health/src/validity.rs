//! Until when a certificate is good. `rustls` checks that where it meets one, and tells nobody the date.
//!
//! The way there is short and fixed (RFC 5280, 4.1): a sequence in a sequence, four fields, two times. Of bytes that are no
//! certificate nothing is known.

use rustls::pki_types::CertificateDer;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const DAY_SECONDS: i64 = 86_400;

/// When the first of a chain expires, in seconds since 1970; `None`: that is not known.
pub fn ends(chain: &[CertificateDer<'_>]) -> Option<i64> {
    chain.iter().filter_map(|certificate| end(certificate)).min()
}

fn end(certificate: &[u8]) -> Option<i64> {
    let (whole, _) = field(certificate, SEQUENCE)?;
    let (signed, _) = field(whole, SEQUENCE)?;
    let rest = field(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_, rest) = field(rest, INTEGER)?;
    // The algorithm of the signature, and who made it.
    let (_, rest) = field(rest, SEQUENCE)?;
    let (_, rest) = field(rest, SEQUENCE)?;
    let (validity, _) = field(rest, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    time(rest).map(|(end, _)| end)
}

/// What a field of this kind holds, and what stands behind it.
fn field(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate is no longer than two octets can tell.
        0x81 | 0x82 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    (found == kind).then_some(())?;
    rest.split_at_checked(length)
}

/// A time in seconds since 1970, and what stands behind it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let ((text, rest), has_century) = match field(bytes, UTC_TIME) {
        Some(found) => (found, false),
        None => (field(bytes, GENERALIZED_TIME)?, true),
    };
    let text = text.strip_suffix(b"Z").filter(|text| text.iter().all(u8::is_ascii_digit))?;
    let (year, text) = text.split_at_checked(if has_century { 4 } else { 2 })?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let year = match (number(year), has_century) {
        (year, true) => year,
        // Until 2049 they have two digits.
        (year, false) if year < 50 => 2_000 + year,
        (year, false) => 1_900 + year,
    };
    let &[a, b, c, d, e, f, g, h, i, j] = text else { return None };
    let [month, day, hour, minute, second] = [[a, b], [c, d], [e, f], [g, h], [i, j]].map(|it| number(&it));
    let is_one =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    is_one.then(|| (days(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second, rest))
}

/// Days since 1970 of a day in the Gregorian calendar. A year is taken to begin with March, so that its odd month is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::local::certificates;

    #[test]
    fn a_day_is_counted_from_1970() {
        for (date, number) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 29), 20_786),
            ((2100, 3, 1), 47_541),
        ] {
            let (year, month, day) = date;
            assert_eq!(days(year, month, day), number, "{date:?}");
        }
        let utc =
            |text: &str| time(&[&[UTC_TIME, text.len() as u8], text.as_bytes()].concat()).map(|it| it.0);
        assert_eq!(utc("700101000001Z"), Some(1));
        assert_eq!(utc("491231235959Z"), Some(2_524_607_999));
        for bad in ["", "Z", "701301000001Z", "700101000001", "7001010000Z", "70010100000xZ", "700101240000Z"]
        {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }

    /// By an independent tool, in both forms of times, with short and with long fields.
    #[test]
    fn openssls_certificates_end_when_it_says() {
        let folder = std::env::temp_dir().join(format!("weir-validity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut all = Vec::new();
        for (days, kind) in [(1, "rsa:2048"), (825, "ed25519"), (20_000, "rsa:4096")] {
            let path = folder.join(format!("{days}.pem"));
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    kind,
                    "-nodes",
                    "-subj",
                    "/CN=weir",
                    "-keyout",
                    "/dev/null",
                ])
                .args([
                    "-days",
                    &days.to_string(),
                    "-addext",
                    "subjectAltName=DNS:a.example,DNS:b.example",
                    "-out",
                ])
                .arg(&path)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let chain = certificates(&path).unwrap();
            let expected = now + days * DAY_SECONDS;
            let end = ends(&chain).unwrap();
            assert!((expected..expected + 300).contains(&end), "{days} days: {end}, not {expected}");
            // Whatever is cut off, nothing is made up.
            for length in 0..chain[0].len() {
                let found = ends(&[chain[0][..length].to_vec().into()]);
                assert!(found.is_none(), "{length}");
            }
            all.extend(chain);
        }
        assert_eq!(ends(&all), ends(&all[..1]), "the first that ends");
        assert_eq!(ends(&[]), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
