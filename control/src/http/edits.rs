//! What the control socket answers, and the TCP listener to who has a token: edits, reloads, the desired state.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::timeout;
use weir_api::edits::{self as api, Desired, Kind, Refusal, Refused, Reload};
use weir_config::edit::{Edit, Id, Keys};
use weir_config::model::{Family, Identity, Protocol};

use super::query::NoKeys;
use super::{HttpState, JSON, Visit, make, respond, unique};
use crate::orders::{EditOrder, Order, ReloadOrder, refusal};

/// Bytes of a request's body at most: some 20,000 real servers.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// How long a body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Larger bodies are read beside control.
const AT_ONCE_BYTES_MAX: usize = 32 << 10;

/// `POST /api/v1/edits`
pub(super) async fn edits(State(state): State<HttpState>, request: Request) -> Response {
    answer(make_edits(state, request).await)
}

async fn make_edits(state: HttpState, request: Request) -> Result<api::Applied, Refusal> {
    let asked: api::Request = body(request).await?;
    let mut edits = Vec::with_capacity(asked.edits.len());
    for (place, wanted) in asked.edits.into_iter().enumerate() {
        let in_place = |text| Refusal { edit: Some(place), ..refusal(Kind::Invalid, text) };
        edits.push(edit(wanted).map_err(in_place)?);
    }
    let (answer, answered) = oneshot::channel();
    order(&state, Order::Edit(EditOrder { edits, is_dry_run: asked.dry_run, answer }))?;
    answered.await.unwrap_or_else(|_| Err(stopping()))
}

/// `POST /api/v1/reload`
pub(super) async fn reload(State(state): State<HttpState>, request: Request) -> Response {
    answer(make_reload(state, request).await)
}

async fn make_reload(state: HttpState, request: Request) -> Result<api::Reloaded, Refusal> {
    let wanted: Reload = body(request).await?;
    let (answer, answered) = oneshot::channel();
    order(&state, Order::Reload(ReloadOrder { wanted, answer: Some(answer) }))?;
    answered.await.unwrap_or_else(|_| Err(stopping()))
}

/// `GET /api/v1/desired`
pub(super) async fn desired(State(state): State<HttpState>, visit: Visit, _: NoKeys) -> Response {
    let (reply, replied) = oneshot::channel();
    let asked = order(&state, Order::Desired(reply));
    let shown = match asked {
        Ok(()) => replied.await.map_err(|_| stopping()),
        Err(why) => Err(why),
    };
    match shown {
        Ok(shown) => {
            let page = move || {
                let desired = Desired { tables: shown.tables() };
                serde_json::to_vec(&desired).map_err(|problem| problem.to_string())
            };
            make(state, visit, JSON, page).await
        }
        Err(why) => answer::<()>(Err(why)),
    }
}

/// `GET /api/v1/timeouts`
pub(super) async fn timeouts(State(state): State<HttpState>, _: NoKeys) -> Response {
    use weir_dataplane::conn::state::{State as ConnectionState, tcp};
    let snapshot = state.sources().snapshot.load();
    let of = |protocol, state| snapshot.lifetimes.of(protocol, state);
    answer(Ok(api::Timeouts {
        tcp_established: of(Protocol::Tcp, tcp::ESTABLISHED),
        tcp_fin_wait: of(Protocol::Tcp, tcp::FIN_WAIT),
        udp: of(Protocol::Udp, ConnectionState::NONE),
    }))
}

fn order(state: &HttpState, order: Order) -> Result<(), Refusal> {
    use tokio::sync::mpsc::error::TrySendError;
    state.orders.try_send(order).map_err(|problem| match problem {
        TrySendError::Full(_) => refusal(Kind::Busy, "too many other requests wait"),
        TrySendError::Closed(_) => stopping(),
    })
}

fn stopping() -> Refusal {
    refusal(Kind::Stopping, "weir is about to end")
}

/// What a request asks for. It stands in the body: a `?dry_run=true` that nobody looks at would change weir.
async fn body<T: DeserializeOwned + Send + 'static>(request: Request) -> Result<T, Refusal> {
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(malformed("what is asked for stands in its body, and nothing behind a question mark"));
    }
    let too_large = || {
        let text = format!("a request has at most {} MiB: make several of it", BODY_BYTES_MAX >> 20);
        refusal(Kind::TooLarge, text)
    };
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let bytes = match timeout(BODY_TIME_MAX, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(problem)) if is_limit(&problem) => return Err(too_large()),
        Ok(Err(problem)) => return Err(malformed(&problem.to_string())),
        Err(_) => return Err(malformed(&format!("it did not come within {} s", BODY_TIME_MAX.as_secs()))),
    };
    let read = move || match bytes.iter().all(u8::is_ascii_whitespace) {
        // No body asks for nothing in particular.
        true => serde_json::from_str("{}"),
        false => unique::look_through(&bytes).and_then(|()| serde_json::from_slice(&bytes)),
    };
    let read = match length.is_some_and(|length| length <= AT_ONCE_BYTES_MAX as u64) {
        true => read(),
        false => match tokio::task::spawn_blocking(read).await {
            Ok(read) => read,
            Err(problem) => return Err(malformed(&problem.to_string())),
        },
    };
    read.map_err(|problem| malformed(&problem.to_string()))
}

fn malformed(why: &str) -> Refusal {
    refusal(Kind::Malformed, format!("the request can't be read: {why}"))
}

fn is_limit(problem: &axum::Error) -> bool {
    let mut source = std::error::Error::source(problem);
    while let Some(inner) = source {
        if inner.to_string().contains("length limit") {
            return true;
        }
        source = inner.source();
    }
    false
}

fn answer<T: Serialize>(outcome: Result<T, Refusal>) -> Response {
    let status = match &outcome {
        Ok(_) => StatusCode::OK,
        Err(refusal) => match refusal.kind {
            Kind::Busy | Kind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        },
    };
    let text = match outcome {
        Ok(done) => serde_json::to_vec(&done),
        Err(error) => serde_json::to_vec(&Refused { error }),
    };
    respond(status, JSON, Body::from(text.unwrap_or_default()))
}

/// As the configuration has it.
fn edit(wanted: api::Edit) -> Result<Edit, String> {
    let key = |socket: api::Socket| (socket.address, socket.port);
    Ok(match wanted {
        api::Edit::AddVirtualServer { virtual_server } => Edit::AddVirtualServer(virtual_server),
        api::Edit::SetVirtualServer { virtual_server, keys } => {
            Edit::SetVirtualServer(id(virtual_server)?, keys)
        }
        api::Edit::RemoveVirtualServer { virtual_server } => Edit::RemoveVirtualServer(id(virtual_server)?),
        api::Edit::AddRealServer { virtual_server, real_server } => {
            Edit::AddRealServer(id(virtual_server)?, real_server)
        }
        api::Edit::SetRealServer { virtual_server, real_server, keys } => {
            Edit::SetRealServer(id(virtual_server)?, key(real_server), keys)
        }
        api::Edit::RemoveRealServer { virtual_server, real_server } => {
            Edit::RemoveRealServer(id(virtual_server)?, key(real_server))
        }
        api::Edit::Clear => Edit::Clear,
        api::Edit::Zero { virtual_server } => Edit::Zero(virtual_server.map(id).transpose()?),
        api::Edit::SetTimeouts { tcp_established, tcp_fin_wait, udp } => {
            let keys = [("tcp_established", tcp_established), ("tcp_fin_wait", tcp_fin_wait), ("udp", udp)];
            let said =
                keys.into_iter().filter_map(|(key, seconds)| Some((key, seconds.filter(|it| *it != 0)?)));
            Edit::SetTimeouts(said.map(|(key, seconds)| (key.to_owned(), seconds.into())).collect::<Keys>())
        }
    })
}

fn id(wanted: api::Id) -> Result<Id, String> {
    Ok(match wanted {
        api::Id::Name(api::ByName { name }) => Id::Name(name),
        api::Id::Address(api::ByAddress { protocol, address, port }) => {
            let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            let protocol = known.into_iter().find(|known| known.name() == protocol);
            let protocol = protocol.ok_or("unknown protocol: known: tcp, udp, sctp")?;
            let address: IpAddr = address;
            Id::Identity(Identity::Address { address, port, protocol })
        }
        api::Id::Mark(api::ByMark { mark, family }) => {
            let families = [Family::V4, Family::V6];
            let family = match family {
                None => Some(Family::V4),
                Some(name) => families.into_iter().find(|family| family.name() == name),
            };
            let family = family.ok_or("unknown address family: known: ipv4, ipv6")?;
            Id::Identity(Identity::Mark { mark, family })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned + Send + 'static>(path: &str, text: &'static str) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = Request::post(path).header(CONTENT_LENGTH, text.len()).body(Body::from(text)).unwrap();
        runtime.block_on(body(request)).map_err(|refusal| {
            assert_eq!(refusal.kind, Kind::Malformed);
            refusal.text
        })
    }

    #[test]
    fn a_dry_run_that_stands_in_the_wrong_place_is_no_reload() {
        for (path, text) in
            [("/api/v1/reload?dry_run=true", ""), ("/api/v1/reload?x", r#"{"dry_run": true}"#)]
        {
            let said = read::<Reload>(path, text).unwrap_err();
            assert!(said.contains("stands in its body"), "{said}");
        }
        assert_eq!(read("/api/v1/reload", ""), Ok(Reload::default()));
        assert_eq!(
            read("/api/v1/reload?", r#"{"dry_run": true}"#),
            Ok(Reload { dry_run: true, ..Reload::default() })
        );
    }

    #[test]
    fn what_says_two_things_or_names_nobody_is_refused_in_words() {
        for (text, words) in [
            (
                r#"{"edits": [{"op": "add_virtual_server", "virtual_server": {"port": 80, "port": 81}}]}"#,
                "the key \"port\" is there twice at line 1 column",
            ),
            (r#"{"edits": [], "edits": []}"#, "the key \"edits\" is there twice"),
            (
                r#"{"edits": [{"op": "zero", "virtual_server": {"name": "web", "port": 80}}]}"#,
                "a virtual server is named by {\"name\"}, by {\"protocol\", \"address\", \"port\"} or by {\"mark\"}",
            ),
            ("7", "expected an object with `edits`"),
        ] {
            let said = read::<api::Request>("/api/v1/edits", text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
