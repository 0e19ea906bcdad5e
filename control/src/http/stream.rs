//! `/api/v1/connections?stream=yes`: a line of JSON for each connection, as long as there are any.
//!
//! Made by a thread of its own, a piece ahead of what the client has read, so millions of connections take no more memory than one.
//! It counts as a page being made. It ends when the client goes, which it does at the latest when its connection is too old.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::channel::Channel;
use tokio::runtime::Handle;

use super::listing::{self, Query};
use super::{HttpState, Visit, respond, too_many_pages, turn};

const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Pieces that wait to be sent.
const PIECES_AHEAD: usize = 2;

/// Begins the stream that answers `query`.
pub(super) async fn connections(state: HttpState, visit: Visit, query: Query) -> Response {
    let Some(turn) = turn(&state, &visit).await else { return too_many_pages() };
    let (mut sender, body) = Channel::<Bytes>::new(PIECES_AHEAD);
    let runtime = Handle::current();
    drop(tokio::task::spawn_blocking(move || {
        let _turn = turn;
        listing::stream(state.sources(), &query, |piece| {
            runtime.block_on(sender.send_data(piece.into())).is_ok()
        });
    }));
    respond(StatusCode::OK, LINES, Body::new(body))
}
