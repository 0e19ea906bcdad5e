//! One HTTP/1.1 request, over TLS or not.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::{Pin, pin};

use http_body_util::Empty;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use ring::digest::{SHA256, digest};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use weir_config::model::health::{BodyDigest, HttpMethod, HttpProbe, TlsOptions};

use super::matching::{Patterns, describe, shown};
use super::{Failure, Found, Success, Target, connect, tls};
use crate::judge::Outcome;

/// Bytes that the head of an answer may have.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields that it may have.
const FIELDS_MAX: usize = 128;

/// Without TLS.
pub(super) async fn check(target: &Target, probe: &HttpProbe, patterns: &Patterns) -> Found {
    let stream = connect::tcp(target).await?;
    let answer = ask(stream, target, probe, patterns);
    target.limits.stage(target.timeouts.response, "complete answer", answer).await
}

/// With TLS.
pub(super) async fn check_tls(
    target: &Target,
    probe: &HttpProbe,
    patterns: &Patterns,
    options: &TlsOptions,
    connector: TlsConnector,
) -> Found {
    let name = server_name(target, probe, options)?;
    let stream = connect::tcp(target).await?;
    let handshake = async { connector.connect(name, stream).await.map_err(|problem| tls::failure(&problem)) };
    let stream = target.limits.stage(target.timeouts.tls, "TLS handshake", handshake).await?;
    let answer = ask(stream, target, probe, patterns);
    target.limits.stage(target.timeouts.response, "complete answer", answer).await
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

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: &Target,
    probe: &HttpProbe,
    patterns: &Patterns,
) -> Found {
    let request = request(target, probe)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
    let connected = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|problem| failure(&problem))?;
    let mut connection = pin!(connection);
    let mut is_open = true;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|problem| failure(&problem))?;
        judge(response, probe, patterns).await
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

fn request(target: &Target, probe: &HttpProbe) -> Result<Request<Empty<Bytes>>, Failure> {
    let method = match probe.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Options => Method::OPTIONS,
    };
    let host = probe.host.clone().unwrap_or_else(|| target.at.to_string());
    Request::builder()
        .method(method)
        .uri(&probe.path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new())
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
            _ => Failure::io("waiting for the answer", io),
        };
    }
    if problem.is_incomplete_message() || problem.is_canceled() || problem.is_closed() {
        return incomplete();
    }
    Failure::new(Outcome::Unexpected, format!("not an HTTP answer: {problem}"))
}

async fn judge(response: Response<Incoming>, probe: &HttpProbe, patterns: &Patterns) -> Found {
    let status = response.status().as_u16();
    if !probe.status.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        let accepted: Vec<String> = probe.status.iter().map(range).collect();
        let detail = format!("status {status}, expected {}", accepted.join(" or "));
        return Err(Failure::new(Outcome::Unexpected, detail));
    }
    for (name, wanted) in &probe.headers {
        let mut has_it = false;
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            for value in response.headers().get_all(name) {
                has_it |= patterns.is_match(value.as_bytes(), wanted)?;
            }
        }
        if !has_it {
            let detail = format!("no header {name} with {}", describe(wanted));
            return Err(Failure::new(Outcome::Unexpected, detail));
        }
    }
    // A body that nobody asks about may be as long as it likes.
    if !probe.body.is_empty() || !probe.body_digests.is_empty() {
        judge_body(response.into_body(), probe, patterns).await?;
    }
    Ok(Success::new(format!("status {status}")))
}

fn range((from, to): &(u16, u16)) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

/// Texts are looked for in the first bytes of the body, a digest needs all of it.
async fn judge_body(mut body: Incoming, probe: &HttpProbe, patterns: &Patterns) -> Result<(), Failure> {
    let limit = probe.body_limit as usize;
    let mut text: Vec<u8> = Vec::new();
    let mut is_whole = true;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|problem| failure(&problem))?;
        if let Some(piece) = frame.data_ref() {
            let room = limit - text.len();
            text.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room || text.len() == limit && !body.is_end_stream() {
                is_whole = false;
                break;
            }
        }
    }
    for wanted in &probe.body {
        if !patterns.is_match(&text, wanted)? {
            let detail = format!("no {} in the body {}", describe(wanted), shown(&text));
            return Err(Failure::new(Outcome::Unexpected, detail));
        }
    }
    if !is_whole && !probe.body_digests.is_empty() {
        return Err(Failure::new(Outcome::Unexpected, format!("the body is longer than {limit} bytes")));
    }
    probe.body_digests.iter().try_for_each(|wanted| has_digest(&text, wanted))
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
