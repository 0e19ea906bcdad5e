//! What stands behind the question mark of an address.

use std::borrow::Cow;
use std::collections::HashSet;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use percent_encoding::percent_decode_str;

use super::plain;

/// A key with its value.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The keys of a query with their values, percent-encoded octets decoded (RFC 3986 section 2.1); a key without `=` has an empty
/// value. `+` is a plus: names may hold one, and none a space.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// The same of a query in which only these keys may stand several times: of two values of another one, one would not count.
///
/// # Errors
/// A sentence for the client.
pub(super) fn pairs_once<'a>(query: &'a str, several: &[&str]) -> Result<Vec<Pair<'a>>, String> {
    let (mut known, mut all) = (HashSet::new(), Vec::new());
    for (key, value) in pairs(query) {
        if !several.contains(&&*key) && !known.insert(key.clone()) {
            return Err(format!("{} is there twice", key.escape_debug()));
        }
        all.push((key, value));
    }
    Ok(all)
}

/// What is asked for where nothing may stand behind the question mark: whoever writes a key there expects something of it.
pub(super) struct NoKeys;

impl<S: Sync> FromRequestParts<S> for NoKeys {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match pairs(parts.uri.query().unwrap_or_default()).next() {
            None => Ok(Self),
            Some(_) => {
                let text = format!("{} takes no query\n", parts.uri.path());
                Err(plain(StatusCode::BAD_REQUEST, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once_unless_it_may_be_there_several_times() {
        assert_eq!(pairs_once("a=1&b=2&b=3", &["b"]).unwrap().len(), 3);
        assert_eq!(pairs_once("b=2&a=1&%62=2", &["a"]), Err("b is there twice".to_owned()));
        assert_eq!(pairs_once("%1b=1&%1b=2", &[]), Err("\\u{1b} is there twice".to_owned()));
    }

    #[test]
    fn octets_are_decoded_after_the_query_is_taken_apart() {
        let read = |query| pairs(query).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read("a=b&&c"), ["a=b", "c="]);
        assert_eq!(read("n%61me=web%3A80%40a+b&x=%26%3d"), ["name=web:80@a+b", "x=&="]);
        assert_eq!(read("a=%&b=%zz&c=%ff"), ["a=%", "b=%zz", "c=\u{fffd}"]);
    }
}
