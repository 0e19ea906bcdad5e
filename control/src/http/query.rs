//! What stands behind the question mark of an address.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The keys of a query with their values, percent-encoded octets decoded (RFC 3986 section 2.1); a key without `=` has an empty
/// value. `+` is a plus: names may hold one, and none a space.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_decoded_after_the_query_is_taken_apart() {
        let read = |query| pairs(query).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read("a=b&&c"), ["a=b", "c="]);
        assert_eq!(read("n%61me=web%3A80%40a+b&x=%26%3d"), ["name=web:80@a+b", "x=&="]);
        assert_eq!(read("a=%&b=%zz&c=%ff"), ["a=%", "b=%zz", "c=\u{fffd}"]);
    }
}
