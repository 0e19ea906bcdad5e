//! The status page: a document with its style, its script and its icon, all of them in the binary.
//!
//! They hold no figures: the script asks `/api/v1/overview` and `/api/v1/events` for them. So the page is the same for everybody, and
//! what browsers may do with it is little: run this script and no other, and ask this weir and nobody else.

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::response::Response;

use super::respond;

/// Nothing from elsewhere, nothing written in place, no text that becomes markup, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) async fn document() -> Response {
    file("text/html; charset=utf-8", include_str!("page/page.html"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

pub(super) async fn icon() -> Response {
    file("image/svg+xml", include_str!("page/page.svg"))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = respond(StatusCode::OK, HeaderValue::from_static(content_type), text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
