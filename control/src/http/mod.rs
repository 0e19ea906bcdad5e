//! weir's HTTP door: metrics for Prometheus, readiness for whoever supervises weir, a status page for people.
//!
//! | path | answer |
//! |---|---|
//! | `/` | status page, HTML; `?page=N` for virtual servers beyond the first hundred, `?refresh=SECONDS` to reload |
//! | `/metrics` | Prometheus text format 0.0.4; `docs/metrics.md` explains each metric |
//! | `/api/v1/connections` | JSON: what the connection tables hold; `?virtual_server=NAME`, `?client=ADDRESS`, `?limit=N` |
//! | `/api/v1/virtual_servers` | JSON: virtual and real servers with counters and rates; `?name=NAME` for one |
//! | `/api/v1/health` | JSON: real servers and their checks; `?virtual_server=NAME` |
//! | `/api/v1/workers` | JSON: what each worker has done, how long its passes take |
//! | `/live` | 200 as long as control runs: a supervisor that gets no answer may restart weir |
//! | `/ready` | 200 when every worker polls and every port's link is up, else 503 and one line that says what is missing |
//!
//! All of it is read-only and `GET` (or `HEAD`). Anything else is answered 404 or 405 in plain text.
//!
//! [`connections`] keeps what clients can take within bounds. The two pages that cost memory are made on tokio's
//! blocking threads, [`PAGES_MAX`] at a time, so that control's own thread is never held up by them.

mod connections;
mod health;
mod listing;
mod page;
mod readiness;
mod servers;
#[cfg(test)]
mod tests;
mod workers;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFRESH, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

use crate::metrics::{Metrics, Sources};

pub(crate) use connections::serve;

/// Pages that exist at a time, from the first byte made to the last one sent: two Prometheus servers and two people.
/// With 100,000 real servers a page of metrics is 100 MB.
const PAGES_MAX: usize = 4;
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Why weir can't listen.
#[derive(Debug, thiserror::Error)]
#[error("HTTP can't listen on {listen} ([http] listen): {}", reason(.source))]
pub(crate) struct BindError {
    listen: SocketAddr,
    source: io::Error,
}

fn reason(problem: &io::Error) -> String {
    match problem.kind() {
        ErrorKind::AddrInUse => "the address is in use; is another weir running?".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => problem.to_string(),
    }
}

/// Takes the address, so that one that can't be had is said before a device is touched.
///
/// # Errors
/// [`BindError`], a sentence for the user.
pub(crate) fn bind(listen: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(listen).map_err(|source| BindError { listen, source })
}

/// What the handlers answer from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpState {
    metrics: Arc<Metrics>,
    pages: Arc<Semaphore>,
}

impl HttpState {
    /// Answers from these metrics.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, pages: Arc::new(Semaphore::new(PAGES_MAX)) }
    }
}

impl HttpState {
    /// Where the figures come from.
    pub(crate) fn sources(&self) -> &Sources {
        self.metrics.sources()
    }
}

fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/api/v1/connections", get(listed_connections))
        .route("/api/v1/virtual_servers", get(listed_servers))
        .route("/api/v1/health", get(health_listing))
        .route("/api/v1/vrrp", get(listed_vrrp))
        .route("/api/v1/workers", get(listed_workers))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

async fn live() -> Response {
    plain(StatusCode::OK, "live\n")
}

async fn ready(State(state): State<HttpState>) -> Response {
    match readiness::missing(state.metrics.sources()).await.as_slice() {
        [] => plain(StatusCode::OK, "ready\n"),
        missing => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; "))),
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let metrics = state.metrics.clone();
    make(state, METRICS, move || metrics.text().map_err(|problem| problem.to_string())).await
}

async fn status(State(state): State<HttpState>, uri: Uri) -> Response {
    let query = match page::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let before = page::Before::take(state.metrics.sources());
    tokio::time::sleep(page::RATE_INTERVAL).await;
    let metrics = state.metrics.clone();
    let html = move || Ok(page::render(&metrics.read(), &before, &query).into_bytes());
    let mut response = make(state, HTML, html).await;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    if let Some(seconds) = query.refresh {
        headers.insert(REFRESH, HeaderValue::from(seconds));
    }
    response
}

async fn listed_connections(State(state): State<HttpState>, uri: Uri) -> Response {
    let query = match listing::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    make(state, JSON, move || listing::render(metrics.sources(), &query)).await
}

async fn listed_servers(State(state): State<HttpState>, uri: Uri) -> Response {
    let name = match servers::wanted(uri.query().unwrap_or_default()) {
        Ok(name) => name,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    make(state, JSON, move || servers::render(&metrics, name.as_deref())).await
}

async fn health_listing(State(state): State<HttpState>, uri: Uri) -> Response {
    let query = match health::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    make(state, JSON, move || health::render(&metrics.sources().health.listing(), &query)).await
}

async fn listed_vrrp(State(state): State<HttpState>) -> Response {
    let status = state.metrics.sources().vrrp.load_full();
    make(state, JSON, move || serde_json::to_vec(&*status).map_err(|problem| problem.to_string())).await
}

async fn listed_workers(State(state): State<HttpState>) -> Response {
    let metrics = state.metrics.clone();
    make(state, JSON, move || workers::render(metrics.sources())).await
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    plain(
        StatusCode::NOT_FOUND,
        format!(
            "there is no {path} here; try /, /metrics, /api/v1/virtual_servers, /api/v1/workers, /api/v1/connections, /api/v1/health, /api/v1/vrrp, /live or /ready\n"
        ),
    )
}

async fn method_not_allowed() -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// A body that is made elsewhere, unless there are too many at once.
async fn make(
    state: HttpState,
    content_type: HeaderValue,
    body: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Response {
    let Ok(permit) = state.pages.try_acquire_owned() else {
        let mut response =
            plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are being made; try again in a second\n");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    let made = tokio::task::spawn_blocking(body).await.unwrap_or_else(|problem| Err(problem.to_string()));
    match made {
        Ok(bytes) => {
            respond(StatusCode::OK, content_type, Bytes::from_owner(Page { bytes, _permit: permit }))
        }
        Err(problem) => {
            error!("HTTP: a page can't be made: {problem}");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page can't be made; weir's log says why\n")
        }
    }
}

/// A page counts until its last byte is sent.
struct Page {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    respond(status, PLAIN, text)
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, body.into()).into_response()
}
