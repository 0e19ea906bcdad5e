//! HTTP/1.1 requests, over TLS or not, each on a connection of its own.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use ring::digest::{SHA256, digest};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use weir_config::model::health::{BodyDigest, HttpMethod, HttpProbe, Page, TlsOptions};

use super::head::{Endless, Head};
use super::matching::{Patterns, aside, describe, shown};
use super::patient::Patient;
use super::{Failure, Found, Success, Target, connect, is_cut, system_says, tls};
use crate::judge::Outcome;

/// Bytes that the head of an answer may have.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields that it may have.
const FIELDS_MAX: usize = 4096;
/// Answers up to this are looked at in place, larger ones beside the checks.
const IN_PLACE_BYTES: usize = 4096;

/// TLS around a request.
pub(super) struct Tls<'a> {
    pub(super) options: &'a TlsOptions,
    pub(super) connector: TlsConnector,
}

/// All pages of a check; the first that is not as expected fails it.
pub(super) async fn check(
    target: &Target,
    probe: &HttpProbe,
    patterns: &Arc<Patterns>,
    tls: Option<Tls<'_>>,
) -> Found {
    let mut last = Success::default();
    for page in &probe.pages {
        let found = match answer(target, probe, page, tls.as_ref()).await {
            Ok(answer) => judge(answer, page, patterns, probe.body_limit as usize).await,
            Err(failure) => Err(failure),
        };
        last = found.map_err(|failure| match probe.pages.len() {
            1 => failure,
            _ => {
                // The query may hold a key, and the detail goes to logs and pages.
                let path = page.path.split(['?', '@']).next().unwrap_or_default();
                Failure { detail: format!("{path}: {}", failure.detail), ..failure }
            }
        })?;
    }
    match probe.pages.len() {
        1 => Ok(last),
        count => Ok(Success::new(format!("{count} pages are as expected"))),
    }
}

async fn answer(
    target: &Target,
    probe: &HttpProbe,
    page: &Page,
    tls: Option<&Tls<'_>>,
) -> Result<Heard, Failure> {
    let response = target.timeouts.response;
    let Some(tls) = tls else {
        let stream = connect::tcp(target).await?;
        return target.limits.stage(response, "complete answer", ask(stream, target, probe, page)).await;
    };
    let name = server_name(target, probe, tls.options)?;
    let stream = connect::tcp(target).await?;
    let handshake = tls.connector.connect(name, stream);
    let handshake = async { handshake.await.map_err(|problem| tls::failure(&problem)) };
    let stream = target.limits.stage(target.timeouts.tls, "TLS handshake", handshake).await?;
    target.limits.stage(response, "complete answer", ask(stream, target, probe, page)).await
}

/// What the certificate must be for. An address goes without SNI (RFC 6066 section 3).
fn server_name(
    target: &Target,
    probe: &HttpProbe,
    options: &TlsOptions,
) -> Result<ServerName<'static>, Failure> {
    let host = probe.host.as_ref().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host.as_str(),
    });
    let name = options.server_name.as_deref().or(host).map(|name| name.trim_matches(['[', ']']));
    match name.filter(|name| name.parse::<IpAddr>().is_err()) {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::new(Outcome::Error, format!("{name} is no server name for TLS"))),
        None => Ok(ServerName::IpAddress(target.at.ip().into())),
    }
}

/// An answer with an accepted status.
struct Heard {
    status: u16,
    headers: HeaderMap,
    /// As much of it as is looked at; empty if nobody asks about it.
    body: Vec<u8>,
    /// Whether that is all of it.
    is_whole: bool,
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: &Target,
    probe: &HttpProbe,
    page: &Page,
) -> Result<Heard, Failure> {
    let request = request(target, probe, page)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
    // RFC 9112 section 5.2: a user agent takes a folded line for a blank.
    builder.allow_obsolete_multiline_headers_in_responses(true);
    let head = Head::default();
    let stream = Patient::new(stream, head.clone(), HEAD_BYTES_MAX);
    let connected = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|problem| failure(&problem))?;
    let mut connection = pin!(connection);
    let mut is_open = true;
    let exchange = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|problem| match head.odd_field().filter(|_| problem.is_parse()) {
            Some(what) if !problem.is_parse_too_large() => {
                Failure::new(Outcome::Unexpected, format!("not an HTTP answer: {what}"))
            }
            _ => failure(&problem),
        })?;
        let status = response.status().as_u16();
        if !page.status.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
            let accepted: Vec<String> = page.status.iter().map(range).collect();
            let detail = format!("status {status}, expected {}", accepted.join(" or "));
            return Err(Failure::new(Outcome::Unexpected, detail));
        }
        let (head, body) = response.into_parts();
        // A body that nobody asks about may be as long as it likes.
        let is_asked = !page.body.is_empty() || !page.body_digests.is_empty();
        let limit = if is_asked { probe.body_limit as usize } else { 0 };
        let (body, is_whole) = if is_asked { read(body, limit).await? } else { (Vec::new(), true) };
        Ok(Heard { status, headers: head.headers, body, is_whole })
    };
    let mut exchange = pin!(exchange);
    loop {
        tokio::select! {
            found = &mut exchange => break found,
            // What goes wrong on the connection, the exchange hears of.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

fn request(target: &Target, probe: &HttpProbe, page: &Page) -> Result<Request<Full<Bytes>>, Failure> {
    let method = match probe.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Post => Method::POST,
    };
    let host = probe.host.clone().unwrap_or_else(|| target.at.to_string());
    let mut request = Request::builder().method(method).uri(&page.path).header(HOST, host);
    if !probe.fields.iter().any(|(name, _)| name == "user-agent") {
        request = request.header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
    }
    for (name, value) in &probe.fields {
        request = request.header(name, value);
    }
    request
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(probe.body.clone())))
        .map_err(|problem| Failure::new(Outcome::Error, format!("no request can be made: {problem}")))
}

fn incomplete() -> Failure {
    Failure::new(Outcome::Closed, "closed before the answer was complete")
}

fn failure(problem: &hyper::Error) -> Failure {
    if let Some(io) = std::error::Error::source(problem).and_then(|it| it.downcast_ref::<std::io::Error>()) {
        return match io.kind() {
            ErrorKind::UnexpectedEof => incomplete(),
            _ if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => tls::failure(io),
            _ if io.get_ref().is_some_and(|inner| inner.is::<Endless>()) => {
                Failure::new(Outcome::Unexpected, io.to_string())
            }
            _ if io.raw_os_error().is_none() && !is_cut(io) => {
                Failure::new(Outcome::Unexpected, format!("not an HTTP answer: {}", system_says(io)))
            }
            _ => Failure::io("waiting for the answer", io),
        };
    }
    if problem.is_incomplete_message() || problem.is_canceled() || problem.is_closed() {
        return incomplete();
    }
    if problem.is_parse_too_large() {
        let limit = HEAD_BYTES_MAX >> 10;
        let detail =
            format!("the head of the answer is larger than {limit} KiB or has more than {FIELDS_MAX} fields");
        return Failure::new(Outcome::Unexpected, detail);
    }
    Failure::new(Outcome::Unexpected, format!("not an HTTP answer: {problem}"))
}

/// The first `limit` bytes of a body, and whether they are all of it.
async fn read(mut body: Incoming, limit: usize) -> Result<(Vec<u8>, bool), Failure> {
    let mut text: Vec<u8> = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|problem| failure(&problem))?;
        if let Some(piece) = frame.data_ref() {
            let room = limit - text.len();
            text.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room || text.len() == limit && !body.is_end_stream() {
                return Ok((text, false));
            }
        }
    }
    Ok((text, true))
}

/// Holds an answer to what is expected. The server has done its part by now.
async fn judge(heard: Heard, page: &Page, patterns: &Arc<Patterns>, limit: usize) -> Found {
    let status = heard.status;
    let headers = if page.headers.is_empty() { 0 } else { heard.headers.values().map(|it| it.len()).sum() };
    if heard.body.len() + headers <= IN_PLACE_BYTES {
        look_at(&heard, page, patterns, limit)?;
    } else {
        let (page, patterns) = (page.clone(), patterns.clone());
        aside(move || look_at(&heard, &page, &patterns, limit)).await?;
    }
    Ok(Success::new(format!("status {status}")))
}

fn look_at(heard: &Heard, page: &Page, patterns: &Patterns, limit: usize) -> Result<(), Failure> {
    let unexpected = |detail: String| Err(Failure::new(Outcome::Unexpected, detail));
    for (name, wanted) in &page.headers {
        let mut has_it = false;
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            for value in heard.headers.get_all(name) {
                has_it |= patterns.is_match(value.as_bytes(), wanted)?;
            }
        }
        if !has_it {
            return unexpected(format!("no header {name} with {}", describe(wanted)));
        }
    }
    // Texts are looked for in the first bytes of the body, a digest needs all of it.
    for wanted in &page.body {
        if !patterns.is_match(&heard.body, wanted)? {
            return unexpected(format!("no {} in the body {}", describe(wanted), shown(&heard.body)));
        }
    }
    if !heard.is_whole && !page.body_digests.is_empty() {
        return unexpected(format!("the body is longer than {limit} bytes"));
    }
    page.body_digests.iter().try_for_each(|wanted| has_digest(&heard.body, wanted))
}

fn range((from, to): &(u16, u16)) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

fn has_digest(body: &[u8], wanted: &BodyDigest) -> Result<(), Failure> {
    let (name, found, is_it) = match wanted {
        BodyDigest::Sha256(wanted) => {
            let found = digest(&SHA256, body);
            ("SHA-256", found.as_ref().to_vec(), found.as_ref() == wanted)
        }
        BodyDigest::Md5(wanted) => {
            let found = Md5::digest(body);
            ("MD5", found.to_vec(), found[..] == wanted[..])
        }
    };
    if is_it {
        return Ok(());
    }
    let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(Failure::new(Outcome::Unexpected, format!("the body's {name} is {hex}")))
}
