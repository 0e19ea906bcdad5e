//! weir's HTTP door: metrics for Prometheus, readiness for whoever supervises weir, a status page for people.
//!
//! | path | answer |
//! |---|---|
//! | `/` | status page, HTML, with `/page.css`, `/page.js` and `/page.svg` |
//! | `/metrics` | Prometheus text format 0.0.4, or OpenMetrics, gzip if asked for; `?leave_out=real_servers`; `docs/metrics.md` explains each metric |
//! | `/api/v1/connections` | JSON: what the connection tables hold; filters on both ends and the state, `?limit=N`; `?stream=yes` for a line each |
//! | `/api/v1/status`, `/api/v1/ports`, `/api/v1/counters` | JSON: the director as a whole, its ports, what it has counted |
//! | `/api/v1/virtual_servers` | JSON: virtual and real servers with counters and rates; `?name=NAME` for one, `?templates=count` with clients that persistence ties |
//! | `/api/v1/overview` | JSON: what the status page shows, of one moment, with a part of the virtual servers: `?search=TEXT&sort=active&first=100` |
//! | `/api/v1/events` | JSON: the last lines of the log; `?after=NUMBER` |
//! | `/api/v1/explain` | JSON: what would become of a packet, and why: `?protocol=tcp&source=ADDRESS:PORT&destination=ADDRESS:PORT` |
//! | `/api/v1/health` | JSON: real servers and their checks; `?virtual_server=NAME` |
//! | `/api/v1/neighbors` | JSON: next hops and their MACs, as each worker knows them |
//! | `/api/v1/timeouts` | JSON: how long connections stay |
//! | `/api/v1/openapi.json` | JSON: the API as an OpenAPI document |
//! | `/api/v1/workers` | JSON: what each worker has done, how long its passes take |
//! | `/live` | 200 as long as control runs and no worker or thread of control's is stuck or has panicked, else 503 or no answer: a supervisor may restart weir then |
//! | `/ready` | 200 when every worker polls, every port's link is up and nobody has told weir to stop, else 503 and one line that says what is missing |
//!
//! All of it is read-only and `GET` (or `HEAD`). Anything else is answered 404 or 405 in plain text, 421 what was
//! asked of another host's name, and 400 what names no host or several ([`hosts`]). Where other machines reach the listener
//! they need a token for all but `/metrics`, `/live` and `/ready` ([`guard`]), and TLS ([`tls`]).
//!
//! The control socket answers the same to whoever may open it, whatever name it is called by, and what changes weir besides ([`edits`]);
//! the listener does so to who has a token for it:
//!
//! | path | answer |
//! |---|---|
//! | `POST /api/v1/edits` | JSON: edits are made, all or none |
//! | `POST /api/v1/reload` | JSON: the file is read again, or it is said what would come of it |
//! | `POST /api/v1/capture` | pcapng: frames, as long as a capture goes on; `DELETE` ends it |
//! | `/api/v1/desired` | JSON: the tables of the file as they are in force |
//!
//! [`connections`] and [`room`] keep what clients can take within bounds. Pages that cost memory are made on tokio's
//! blocking threads, [`PAGES_MAX`] at a time, so that control's own thread is never held up by them.

mod accept;
mod announce;
mod capture;
mod connections;
mod director;
mod door;
mod edits;
mod events;
mod explain;
mod guard;
mod health;
mod hosts;
mod keys;
mod listing;
mod neighbors;
mod overview;
mod page;
mod query;
mod readiness;
mod room;
mod servers;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod tls;
mod unique;
mod vrrp;
mod workers;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::error;
use weir_config::model::Http;

use crate::capture::Captures;
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::metrics::format::{Wanted, Without};
use crate::orders::Orders;
use crate::sources::Sources;
use crate::threads::Role;

pub(crate) use explain::Asking;

use connections::{Limits, serve_within};
use guard::{Guard, ask_who_it_is};
use hosts::Hosts;
pub(crate) use keys::{Certificate, Keyring, Keys};
use overview::Shots;
use query::NoKeys;
use room::{Guest, Room};
pub(crate) use servers::with_virtual_servers;
pub(crate) use tally::{Handshake, Refusal, Tally};

/// Pages that are made at a time: for two Prometheus servers and two people. With 100,000 real servers a page of
/// metrics is 100 MB.
const PAGES_MAX: usize = 4;
/// How long a request waits until its page may be made. A page of 100 MB takes about a second.
const PAGE_WAIT: Duration = Duration::from_secs(5);
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
    hosts: Arc<Hosts>,
    guard: Arc<Guard>,
    orders: Orders,
    flags: Flags,
    captures: Captures,
    shots: Shots,
}

impl HttpState {
    /// Answers from these metrics, to those who call it by a name of the file, and has orders carried out elsewhere. As long as it has no
    /// keys it asks nobody who they are.
    pub(crate) fn new(metrics: Arc<Metrics>, settings: &Http, orders: Orders) -> Self {
        let hosts = Arc::new(Hosts::new(&settings.hosts));
        let guard = Arc::new(Guard::new(settings, Keyring::default(), metrics.sources().http.clone()));
        Self {
            metrics,
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
            hosts,
            guard,
            orders,
            flags: Flags::default(),
            captures: Captures::default(),
            shots: Shots::default(),
        }
    }

    /// Shows this certificate at the TCP listener, and asks for these tokens.
    pub(crate) fn with_keys(self, keys: Keyring) -> Self {
        Self { guard: Arc::new(self.guard.with_keys(keys)), ..self }
    }

    /// Looks there whether weir leaves, and asks the kernel about its threads where a worker does not poll.
    pub(crate) fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }
}

impl HttpState {
    /// Where the figures come from.
    pub(crate) fn sources(&self) -> &Sources {
        self.metrics.sources()
    }
}

/// Answers until `shutdown`.
///
/// # Errors
/// The listener can't be watched.
pub(crate) async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::USUAL, (listener, state.guard.clone()), router(state), shutdown).await
}

/// Answers at the control socket until `shutdown`.
///
/// # Errors
/// The socket can't be watched.
pub(crate) async fn serve_control(
    listener: UnixListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::USUAL, listener, control_router(state), shutdown).await
}

/// A path, and who answers there. `weir_api::openapi` describes the same.
type Route = (&'static str, fn() -> MethodRouter<HttpState>);

/// For people. Whoever may read the rest gets it.
const PAGE: &[Route] = &[
    ("/", || get(page::document)),
    ("/page.css", || get(page::style)),
    ("/page.js", || get(page::script)),
    ("/page.svg", || get(page::icon)),
];

/// What only reads.
const READING: &[Route] = &[
    ("/metrics", || get(metrics)),
    ("/api/v1/status", || get(director_status)),
    ("/api/v1/virtual_servers", || get(listed_servers)),
    ("/api/v1/overview", || get(seen_from_above)),
    ("/api/v1/events", || get(listed_events)),
    ("/api/v1/workers", || get(listed_workers)),
    ("/api/v1/ports", || get(listed_ports)),
    ("/api/v1/counters", || get(counters)),
    ("/api/v1/connections", || get(listed_connections)),
    ("/api/v1/explain", || get(explained)),
    ("/api/v1/health", || get(health_listing)),
    ("/api/v1/neighbors", || get(listed_neighbors)),
    ("/api/v1/vrrp", || get(listed_vrrp)),
    ("/api/v1/announce", || get(listed_announce)),
    ("/api/v1/timeouts", || get(edits::timeouts)),
    ("/api/v1/openapi.json", || get(openapi)),
];

/// What only reads, too, at the control socket, and at the TCP listener for who has a token.
const INNER: &[Route] = &[("/api/v1/desired", || get(edits::desired))];

/// What changes weir, or shows what is in packets. At the control socket, and at the TCP listener for who has a token for that.
const CHANGING: &[Route] = &[
    ("/api/v1/capture", || post(capture::begin).delete(capture::stop)),
    ("/api/v1/edits", || post(edits::edits)),
    ("/api/v1/reload", || post(edits::reload)),
];

/// What supervisors ask. They do so by whatever name they like, and learn nothing that a stranger could use.
const SUPERVISING: &[Route] = &[("/live", || get(live)), ("/ready", || get(ready))];

fn with(router: Router<HttpState>, routes: &[Route]) -> Router<HttpState> {
    routes.iter().fold(router, |router, (path, answer)| router.route(path, answer()))
}

fn holds(routes: &[Route], path: &str) -> bool {
    routes.iter().any(|(known, _)| *known == path)
}

/// The control socket's.
fn control_router(state: HttpState) -> Router {
    [PAGE, READING, INNER, CHANGING, SUPERVISING]
        .into_iter()
        .fold(Router::new(), with)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(note_the_request))
        .with_state(state)
}

/// The TCP listener's.
fn router(state: HttpState) -> Router {
    let pages = [PAGE, READING, INNER, CHANGING].into_iter().fold(Router::new(), with);
    let pages = pages
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), ask_who_it_is))
        .layer(from_fn_with_state(state.clone(), refuse_foreign_names));
    with(pages, SUPERVISING)
        .layer(from_fn(refuse_bad_hosts))
        .layer(from_fn(note_the_request))
        .with_state(state)
}

/// Tells the connection's guest that it is being served.
async fn note_the_request(Extension(guest): Extension<Arc<Guest>>, request: Request, next: Next) -> Response {
    let _serving = guest.serve();
    next.run(request).await
}

async fn refuse_bad_hosts(request: Request, next: Next) -> Response {
    match hosts::fault(request.version(), request.headers()) {
        None => next.run(request).await,
        Some(fault) => plain(StatusCode::BAD_REQUEST, format!("{fault} (RFC 9112, 3.2)\n")),
    }
}

async fn refuse_foreign_names(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    match state.hosts.foreign(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(name) => {
            let name: String = name.chars().filter(|letter| !letter.is_control()).take(200).collect();
            let text = format!(
                "{name} is no name of this director; ask by its address, or write the name into hosts of [http]\n"
            );
            plain(StatusCode::MISDIRECTED_REQUEST, text)
        }
    }
}

async fn live(State(state): State<HttpState>) -> Response {
    let names = |roles: &[Role]| roles.iter().map(Role::to_string).collect::<Vec<_>>().join(", ");
    let stuck: Vec<Role> = state.sources().stuck.roles().collect();
    match (state.flags.threads.that_panicked().as_slice(), stuck.as_slice()) {
        ([], []) => plain(StatusCode::OK, "live\n"),
        ([], stuck) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", names(stuck))),
        (lost, _) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("panicked: {}\n", names(lost))),
    }
}

async fn ready(State(state): State<HttpState>) -> Response {
    match readiness::missing(state.metrics.sources(), &state.flags).await.as_slice() {
        [] => plain(StatusCode::OK, "ready\n"),
        missing => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; "))),
    }
}

async fn metrics(State(state): State<HttpState>, visit: Visit, headers: HeaderMap, uri: Uri) -> Response {
    let without = match left_out(uri.query().unwrap_or_default()) {
        Ok(without) => without,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, problem),
    };
    let wanted = Wanted {
        is_open: accept::prefers_open_metrics(&headers),
        is_gzip: accept::takes_gzip(&headers),
        without,
    };
    let metrics = state.metrics.clone();
    let kind = if wanted.is_open { OPEN_METRICS } else { METRICS };
    let page = move || metrics.page(wanted).map_err(|problem| problem.to_string());
    let mut response = make(state, visit, kind, page).await;
    let is_page = response.status() == StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if wanted.is_gzip && is_page {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// What a page of metrics goes without. Other keys mean nothing here and are left alone.
fn left_out(query: &str) -> Result<Without, &'static str> {
    let mut without = Without::Nothing;
    for (_, value) in query::pairs(query).filter(|(key, _)| key == "leave_out") {
        without = match (&*value, without) {
            ("virtual_servers", _) | ("real_servers", Without::VirtualServers) => Without::VirtualServers,
            ("real_servers", _) => Without::RealServers,
            _ => return Err("leave_out is real_servers or virtual_servers\n"),
        };
    }
    Ok(without)
}

async fn seen_from_above(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let query = match overview::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let shot = state.shots.clone().now(state.clone()).await.map_err(|problem| problem.to_string());
    make(state, visit, JSON, move || shot.and_then(|shot| overview::render(&shot, &query))).await
}

async fn listed_events(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    match events::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => make(state, visit, JSON, move || events::render(&query)).await,
        Err(problem) => plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

async fn listed_connections(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let query = match listing::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    if query.is_stream {
        return stream::connections(state, visit, query).await;
    }
    make(state, visit, JSON, move || listing::render(metrics.sources(), &query)).await
}

async fn director_status(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let metrics = state.metrics.clone();
    let not_ready = readiness::missing(metrics.sources(), &state.flags).await;
    make(state, visit, JSON, move || director::status(&metrics, not_ready)).await
}

async fn listed_ports(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || director::ports(metrics.sources())).await
}

async fn counters(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || director::counters(&metrics)).await
}

async fn listed_servers(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let query = match servers::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || servers::render(&metrics, &query)).await
}

async fn explained(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let metrics = state.metrics.clone();
    let inquiry = explain::Query::parse(uri.query().unwrap_or_default())
        .and_then(|query| query.resolve(metrics.sources()));
    match inquiry {
        Ok(inquiry) => make(state, visit, JSON, move || inquiry.render(metrics.sources())).await,
        Err(problem) => plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

async fn health_listing(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let query = match health::Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || health::render(&metrics.sources().health.listing(), &query)).await
}

async fn listed_vrrp(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let status = state.metrics.sources().vrrp.load_full();
    make(state, visit, JSON, move || vrrp::render(&status)).await
}

async fn listed_announce(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let routes = state.metrics.sources().announce.as_ref().map(|it| it.routes()).unwrap_or_default();
    make(state, visit, JSON, move || announce::render(&routes)).await
}

async fn listed_neighbors(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || neighbors::render(metrics.sources())).await
}

async fn listed_workers(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let metrics = state.metrics.clone();
    make(state, visit, JSON, move || workers::render(metrics.sources())).await
}

async fn openapi(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let document =
        || serde_json::to_vec(&weir_api::openapi::document()).map_err(|problem| problem.to_string());
    make(state, visit, JSON, document).await
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let known: Vec<_> = READING.iter().chain(SUPERVISING).map(|(path, _)| *path).collect();
    let (last, others) = known.split_last().unwrap_or((&"/", &[]));
    plain(StatusCode::NOT_FOUND, format!("there is no {path} here; try /, {} or {last}\n", others.join(", ")))
}

async fn method_not_allowed(uri: Uri) -> Response {
    if holds(CHANGING, uri.path()) {
        // The router says which in Allow.
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "this method is not answered here; Allow says which are\n",
        );
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// Whose request it is, and where its page counts.
#[derive(Clone)]
struct Visit {
    guest: Arc<Guest>,
    room: Arc<Room>,
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let guest = parts.extensions.get::<Arc<Guest>>().expect("every connection has its guest").clone();
        let room = parts.extensions.get::<Arc<Room>>().expect("every connection is in a room").clone();
        Ok(Self { guest, room })
    }
}

/// A body that is made elsewhere, when it is its peer's turn.
async fn make(
    state: HttpState,
    visit: Visit,
    content_type: HeaderValue,
    body: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Response {
    let Some(turn) = turn(&state, &visit).await else { return too_many_pages() };
    let made = tokio::task::spawn_blocking(move || {
        // Held by the thread that makes the page: a client that is gone meanwhile does not free it.
        let _turn = turn;
        body()
    });
    match made.await.unwrap_or_else(|problem| Err(problem.to_string())) {
        Ok(bytes) => {
            visit.room.hold(&visit.guest, bytes.len());
            respond(StatusCode::OK, content_type, Bytes::from_owner(Page { bytes, reader: visit.guest }))
        }
        Err(problem) => {
            error!("HTTP: a page can't be made: {problem}");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page can't be made; weir's log says why\n")
        }
    }
}

/// Leave to make a page, once it is its peer's turn; `None`: that took too long.
async fn turn(state: &HttpState, visit: &Visit) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let turn = async {
        let of_peer = visit.guest.peer.pages.clone().acquire_owned().await.ok()?;
        Some((of_peer, state.pages.clone().acquire_owned().await.ok()?))
    };
    timeout(PAGE_WAIT, turn).await.ok().flatten()
}

fn too_many_pages() -> Response {
    let mut response =
        plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are being made; try again in a second\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A page counts until its last byte is sent.
struct Page {
    bytes: Vec<u8>,
    reader: Arc<Guest>,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.reader.release();
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
