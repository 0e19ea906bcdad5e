//! Who may ask the TCP listener for what.
//!
//! | listener | `/metrics`, `/live`, `/ready` | all else that reads | what changes weir |
//! |---|---|---|---|
//! | loopback, no tokens | anybody | anybody | nobody |
//! | reached by other machines, no tokens | anybody | nobody | nobody |
//! | TLS and tokens | anybody | a token of either role | a token of the role `write` |
//!
//! The control socket has no guard: its mode says who may open it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use rustls::ServerConfig;
use tracing::warn;
use weir_config::model::Http;
use weir_config::tokens::Role;

use super::keys::{Keyring, Keys};
use super::room::Guest;
use super::tally::{Refusal, Tally};
use super::{CHANGING, HttpState, PAGE, READING, holds, not_found, plain};

/// What says nothing that a stranger could use, and what monitoring reads without being known.
const OPEN: [&str; 3] = ["/metrics", "/live", "/ready"];
/// Wrong tokens are logged this often at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// Nobody could listen in.
    pub(super) is_tls: bool,
}

/// See the module.
pub(super) struct Guard {
    is_loopback: bool,
    keys: Keyring,
    tally: Arc<Tally>,
    /// When a wrong token was logged last.
    logged: Mutex<Option<Instant>>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    /// There is no such page for anybody.
    NotThere,
    Refused(Refusal),
}

impl Guard {
    pub(super) fn new(settings: &Http, keys: Keyring, tally: Arc<Tally>) -> Self {
        Self { is_loopback: settings.is_loopback(), keys, tally, logged: Mutex::default() }
    }

    /// The same with other keys.
    pub(super) fn with_keys(&self, keys: Keyring) -> Self {
        Self { is_loopback: self.is_loopback, keys, tally: self.tally.clone(), logged: Mutex::default() }
    }

    /// How new connections are met; `None`: in plain HTTP.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.keys.load().tls.clone()
    }

    /// What counts.
    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    fn judge(&self, way: Way, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), No> {
        let keys = self.keys.load();
        if OPEN.contains(&path) {
            return Ok(());
        }
        let Some(tokens) = &keys.tokens else {
            return match (self.is_loopback, holds(READING, path) || holds(PAGE, path)) {
                (true, true) => Ok(()),
                (true, false) => Err(No::NotThere),
                (false, _) => Err(No::Refused(Refusal::NotServed)),
            };
        };
        if !way.is_tls {
            return Err(No::Refused(Refusal::NoTls));
        }
        let said = bearer(headers).ok_or(No::Refused(Refusal::NoToken))?;
        let role = tokens.role(said).ok_or(No::Refused(Refusal::WrongToken))?;
        let is_read = [Method::GET, Method::HEAD].contains(method) && !holds(CHANGING, path);
        let needed = if is_read { Role::Read } else { Role::Write };
        if role < needed { Err(No::Refused(Refusal::Role)) } else { Ok(()) }
    }

    /// A wrong token may be one that was changed, or somebody who tries.
    fn log_wrong_token(&self, guest: &Guest) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            warn!(from = %guest.peer.who, "HTTP: a request with a token that is not in token_file of [http]");
        }
    }
}

/// The token of a request. Of several lines none counts: two parties could read them in two ways.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(said), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = said.as_bytes().split_at_checked("Bearer ".len())?;
    // The name of a scheme has no case (RFC 9110, 11.1).
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii()).filter(|token| !token.is_empty())
}

/// Lets a request through, or says why not.
pub(super) async fn ask_who_it_is(
    State(state): State<HttpState>,
    Extension(way): Extension<Way>,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
    next: Next,
) -> Response {
    let guard = &state.guard;
    let why = match guard.judge(way, request.method(), request.uri().path(), request.headers()) {
        Ok(()) => return next.run(request).await,
        Err(No::NotThere) => return not_found(request.uri().clone()).await,
        Err(No::Refused(why)) => why,
    };
    guard.tally.refused(why);
    if why == Refusal::WrongToken {
        guard.log_wrong_token(&guest);
    }
    refusal(why, &guard.keys.load())
}

fn refusal(why: Refusal, keys: &Keys) -> Response {
    let (status, challenge, text) = match why {
        Refusal::NotServed if keys.tls.is_some() => (
            StatusCode::FORBIDDEN,
            None,
            "other machines are answered only /metrics, /live and /ready here; for the rest write token_file into [http] of weir's file, or ask weir's control socket",
        ),
        Refusal::NotServed => (
            StatusCode::FORBIDDEN,
            None,
            "other machines are answered only /metrics, /live and /ready here; for the rest write tls_certificate, tls_key and token_file into [http] of weir's file, or ask weir's control socket",
        ),
        Refusal::NoTls => (StatusCode::FORBIDDEN, None, "this listener speaks TLS now: ask https:// anew"),
        Refusal::NoToken => (
            StatusCode::UNAUTHORIZED,
            Some("Bearer realm=\"weir\""),
            "a token is needed: send one of token_file of [http] as `Authorization: Bearer TOKEN`",
        ),
        Refusal::WrongToken => (
            StatusCode::UNAUTHORIZED,
            Some("Bearer realm=\"weir\", error=\"invalid_token\""),
            "this token is not in token_file of [http]",
        ),
        Refusal::Role => (
            StatusCode::FORBIDDEN,
            Some("Bearer realm=\"weir\", error=\"insufficient_scope\""),
            "this token has the role read; what changes weir needs one of the role write",
        ),
    };
    let mut response = plain(status, format!("{text}\n"));
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::super::keys::Tokens;
    use super::*;

    const READ: &str = "read-read-read-read";
    const WRITE: &str = "write-write-write-write";

    fn guard(listen: &str, has_tokens: bool) -> Guard {
        let text = format!("read {READ}\nwrite {WRITE}\n");
        let tokens = has_tokens.then(|| Tokens::new(&weir_config::tokens::parse(text.as_bytes()).unwrap()));
        let settings =
            Http { listen: listen.parse().unwrap(), hosts: Vec::new(), tls: None, token_file: None };
        let keys = Arc::new(ArcSwap::from_pointee(Keys { tokens, ..Keys::default() }));
        Guard::new(&settings, keys, Arc::default())
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (AUTHORIZATION, line.parse().unwrap())).collect()
    }

    fn judge(guard: &Guard, is_tls: bool, method: Method, path: &str, said: &[&str]) -> Result<(), No> {
        guard.judge(Way { is_tls }, &method, path, &headers(said))
    }

    #[test]
    fn without_tokens_other_machines_get_three_pages_and_nobody_changes_anything() {
        for listen in ["10.0.0.2:9292", "0.0.0.0:9292", "[::]:9292", "[2001:db8::1]:9292"] {
            let guard = guard(listen, false);
            for path in OPEN {
                assert_eq!(judge(&guard, false, Method::GET, path, &[]), Ok(()), "{path}");
            }
            for path in ["/", "/api/v1/status", "/api/v1/edits", "/none", "/metrics/", "//metrics", ""] {
                let no = Err(No::Refused(Refusal::NotServed));
                assert_eq!(
                    judge(&guard, true, Method::GET, path, &[&format!("Bearer {WRITE}")]),
                    no,
                    "{path}"
                );
            }
        }
        for listen in ["127.0.0.1:9292", "127.9.9.9:1", "[::1]:9292", "[::ffff:127.0.0.1]:9292"] {
            let guard = guard(listen, false);
            for path in ["/", "/metrics", "/api/v1/status", "/api/v1/virtual_servers"] {
                assert_eq!(judge(&guard, false, Method::GET, path, &[]), Ok(()), "{path}");
            }
            for path in ["/api/v1/edits", "/api/v1/reload", "/api/v1/desired", "/none"] {
                assert_eq!(judge(&guard, false, Method::POST, path, &[]), Err(No::NotThere), "{path}");
            }
        }
    }

    #[test]
    fn tokens_are_asked_for_wherever_weir_listens_and_a_change_needs_one_for_it() {
        let (read, write) = (format!("Bearer {READ}"), format!("bearer  {WRITE} "));
        for listen in ["10.0.0.2:9292", "127.0.0.1:9292"] {
            let guard = guard(listen, true);
            // Whatever the method: it may begin something.
            for path in CHANGING.iter().map(|(path, _)| path) {
                let no = Err(No::Refused(Refusal::Role));
                assert_eq!(judge(&guard, true, Method::GET, path, &[&read]), no, "{path}");
            }
            let judge = |method, said: &[&str]| judge(&guard, true, method, "/api/v1/desired", said);
            assert_eq!(judge(Method::GET, &[&read]), Ok(()));
            assert_eq!(judge(Method::HEAD, &[&read]), Ok(()));
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                assert_eq!(judge(method.clone(), &[&read]), Err(No::Refused(Refusal::Role)));
                assert_eq!(judge(method, &[&write]), Ok(()));
            }
            for none in
                [&[][..], &["Basic YTpi"], &["Bearer"], &["Bearer "], &[&read, &write], &[&read, &read]]
            {
                assert_eq!(judge(Method::GET, none), Err(No::Refused(Refusal::NoToken)), "{none:?}");
            }
            for wrong in
                ["Bearer x", "Bearer read-read-read-rea", &format!("{read}, {write}"), &format!("{read} x")]
            {
                assert_eq!(judge(Method::GET, &[wrong]), Err(No::Refused(Refusal::WrongToken)), "{wrong}");
            }
            let plain = guard.judge(Way { is_tls: false }, &Method::GET, "/", &headers(&[&write]));
            assert_eq!(plain, Err(No::Refused(Refusal::NoTls)));
            assert_eq!(guard.judge(Way { is_tls: false }, &Method::GET, "/live", &HeaderMap::new()), Ok(()));
        }
    }
}
