//! `/api/v1/connections?stream=yes`: a line of JSON for each connection, as long as there are any.
//!
//! Made by a thread of its own, a piece ahead of what the client has read, so millions of connections take no more memory than one. It
//! ends when the client goes, which it does at the latest when its connection is too old. A client may take its time, so streams have
//! places of their own and take none from pages.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::channel::Channel;
use tokio::runtime::Handle;

use super::listing::{self, Query};
use super::room::Peer;
use super::{HttpState, Visit, plain, respond};

const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Pieces that wait to be sent.
const PIECES_AHEAD: usize = 2;
/// Streams at a time; each is a thread that mostly waits.
const STREAMS_MAX: usize = 8;
/// Streams of one peer at a time.
const STREAMS_PER_PEER: usize = 2;

static STREAMS: Streams = Streams::new();

/// Begins the stream that answers `query`.
pub(super) async fn connections(state: HttpState, visit: Visit, query: Query) -> Response {
    let Some(place) = STREAMS.admit(&visit.guest.peer) else {
        let mut response = plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many connections are being streamed; try again later\n",
        );
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let (mut sender, body) = Channel::<Bytes>::new(PIECES_AHEAD);
    let runtime = Handle::current();
    drop(tokio::task::spawn_blocking(move || {
        let _place = place;
        listing::stream(state.sources(), &query, |piece| {
            runtime.block_on(sender.send_data(piece.into())).is_ok()
        });
    }));
    respond(StatusCode::OK, LINES, Body::new(body))
}

/// Whose streams there are.
struct Streams(Mutex<Vec<Arc<Peer>>>);

impl Streams {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// A place for a stream of this peer, if there is one.
    fn admit(&'static self, peer: &Arc<Peer>) -> Option<Place> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = peers.iter().filter(|it| Arc::ptr_eq(it, peer)).count();
        if peers.len() >= STREAMS_MAX || theirs >= STREAMS_PER_PEER {
            return None;
        }
        peers.push(peer.clone());
        Some(Place { streams: self, peer: peer.clone() })
    }
}

/// The place of a stream, until it is dropped.
struct Place {
    streams: &'static Streams,
    peer: Arc<Peer>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = peers.iter().position(|it| Arc::ptr_eq(it, &self.peer)) {
            peers.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Instant;

    use super::*;
    use crate::http::room::Room;

    #[test]
    fn a_peer_has_two_places_and_all_together_eight() {
        static STREAMS: Streams = Streams::new();
        let room = Room::new(64, 1_000);
        let peer =
            |host: u8| room.enter(IpAddr::from(Ipv4Addr::new(10, 0, 0, host)), Instant::now()).peer.clone();
        let mut places: Vec<Place> =
            (1..=4).flat_map(|host| [peer(host), peer(host)]).map(|it| STREAMS.admit(&it).unwrap()).collect();
        assert!(STREAMS.admit(&peer(1)).is_none() && STREAMS.admit(&peer(5)).is_none());
        places.remove(0);
        assert!(STREAMS.admit(&peer(2)).is_none(), "it has two");
        let place = STREAMS.admit(&peer(5));
        assert!(place.is_some() && STREAMS.admit(&peer(1)).is_none());
    }
}
