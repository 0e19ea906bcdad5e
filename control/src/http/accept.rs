//! In which form a client wants an answer (RFC 9110, 12.5).

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// Whether the client takes gzip, and likes nothing better.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = items(headers, ACCEPT_ENCODING);
    let weight = |name| weight(&all, name);
    let gzip = weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight("identity").unwrap_or(0.0)
}

/// Whether the client names OpenMetrics 1.0, and likes plain text no better.
pub(super) fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let all = items(headers, ACCEPT);
    let weight = |name| weight(&all, name);
    let known = |item: &&Item| {
        item.name == "application/openmetrics-text" && matches!(item.version.as_str(), "" | "1.0.0")
    };
    let open = all.iter().filter(known).map(|item| item.weight).fold(0.0, f32::max);
    let plain = weight("text/plain").or_else(|| weight("text/*")).or_else(|| weight("*/*")).unwrap_or(0.0);
    open > 0.0 && open >= plain
}

/// The largest weight that an item of this name has; `None` if there is none.
fn weight(all: &[Item], name: &str) -> Option<f32> {
    all.iter().filter(|item| item.name == name).map(|item| item.weight).reduce(f32::max)
}

/// One of a list.
struct Item {
    name: String,
    version: String,
    weight: f32,
}

fn items(headers: &HeaderMap, header: HeaderName) -> Vec<Item> {
    let lists = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(item).collect()
}

/// What can't be read as a weight is none: nobody gets what he may not have wanted.
fn item(text: &str) -> Item {
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let mut item = Item { name: parts.next().unwrap_or_default(), version: String::new(), weight: 1.0 };
    for part in parts {
        match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("q", weight)) => {
                item.weight =
                    weight.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0);
            }
            Some(("version", version)) => item.version = version.trim_matches('"').to_owned(),
            _ => {}
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(header: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn gzip_is_taken_by_who_says_so() {
        for (takes, values) in [
            (true, &["gzip"][..]),
            (true, &["deflate, GZIP;q=0.1"]),
            (true, &["br", "x-gzip"]),
            (true, &["*"]),
            (true, &["gzip;q=1.0, identity; q=0.5, *;q=0"]),
            (false, &[]),
            (false, &[""]),
            (false, &["deflate"]),
            (false, &["gzip;q=0"]),
            (false, &["gzip; q = 0"]),
            (false, &["gzip;q=0, *"]),
            (false, &["gzip;q=0.5, identity"]),
            (false, &["gzip;q=yes"]),
            (false, &["gzip;q=nan"]),
            (false, &["*;q=0"]),
        ] {
            assert_eq!(takes_gzip(&headers(ACCEPT_ENCODING, values)), takes, "{values:?}");
        }
    }

    #[test]
    fn open_metrics_go_to_who_names_them_and_likes_text_no_better() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let newer = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.3,*/*;q=0.1";
        for (prefers, values) in [
            (true, &[of_prometheus][..]),
            (true, &[newer]),
            (true, &["application/openmetrics-text; version=\"1.0.0\""]),
            (true, &["text/plain;q=0.4", "Application/OpenMetrics-Text"]),
            (false, &[]),
            (false, &["*/*"]),
            (false, &["text/html,*/*;q=0.8"]),
            (false, &["application/*"]),
            (false, &["application/openmetrics-text;version=2.0.0"]),
            (false, &["application/openmetrics-text;q=0"]),
            (false, &["application/openmetrics-text;q=0.3, text/plain"]),
            (false, &["application/openmetrics-text;q=0.3, */*"]),
        ] {
            assert_eq!(prefers_open_metrics(&headers(ACCEPT, values)), prefers, "{values:?}");
        }
    }
}
