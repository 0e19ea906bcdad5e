//! Connections of the HTTP door: how many there are, how long they may take, how they end.
//!
//! Whoever reaches the listening address can hold so many connections and no more; where there are too many,
//! [`Room`] says who gives way. Each takes [`REQUEST_BYTES_MAX`] of memory besides the page it
//! reads, and is closed when a request's header takes too long to arrive or when it is too old, however slowly it
//! reads; only a capture, which has an end of its own, may last longer. [`Limits`] has the figures.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::door::{Arrival, Door, FarEnd, Stream, Who};
use super::room::{Guest, Room};
use super::tls::TlsThread;

/// Request line and headers; Prometheus sends 300 bytes, a browser 1,000. Also what a connection reads ahead.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Pause when no connection can be accepted for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What clients can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Bytes of pages that connections have not read yet, all together.
    pub(super) held_bytes: usize,
    /// For a handshake of TLS.
    pub(super) handshake: Duration,
    /// From the moment that a connection is idle to the last byte of a request's header.
    pub(super) header: Duration,
    /// After this a connection answers its last request...
    pub(super) age: Duration,
    /// ... for which it has this long.
    pub(super) last_request: Duration,
    /// How long a stop waits for connections.
    pub(super) stop: Duration,
}

impl Limits {
    /// Enough for some scrapers, some supervisors and some browsers, each with a few connections; a scrape of a
    /// million samples over a slow line fits into the age, and two of them into the bytes.
    pub(super) const USUAL: Self = Self {
        connections: 64,
        held_bytes: 256 << 20,
        handshake: Duration::from_secs(10),
        header: Duration::from_secs(10),
        age: Duration::from_secs(60),
        last_request: Duration::from_secs(10),
        stop: Duration::from_secs(1),
    };
}

/// Serves `pages` until `shutdown`, then lets requests that are under way end within a second.
///
/// # Errors
/// The listener can't be watched. Problems of single connections only concern those.
pub(super) async fn serve_within(
    limits: Limits,
    door: impl TryInto<Door, Error = io::Error>,
    pages: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let door: Door = door.try_into()?;
    let room = Arc::new(Room::new(limits.connections, limits.held_bytes));
    let router = pages.layer(Extension(room.clone()));
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut tls = TlsThread::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (arrival, peer) = accept(&door) => {
                let thread = match &arrival {
                    Arrival::Plain(_) => Ok(Handle::current()),
                    Arrival::Tls(_) => tls.handle(),
                };
                let thread = match thread {
                    Ok(thread) => thread,
                    Err(problem) => {
                        warn!("HTTP has no thread for TLS: {problem}");
                        continue;
                    }
                };
                let guest = room.enter(peer, Instant::now());
                let (room, router, stopping) = (room.clone(), router.clone(), stopping.subscribe());
                let serve = async move {
                    tokio::select! {
                        () = connection(limits, arrival, &guest, router, stopping) => {}
                        () = guest.told_to_leave() => debug!(?peer, "HTTP connection closed to make room"),
                    }
                    room.left(&guest);
                };
                connections.spawn_on(serve, &thread);
            }
        }
    }
    drop(door);
    stopping.send_replace(true);
    let _ = timeout(limits.stop, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    Ok(())
}

async fn accept(door: &Door) -> (Arrival, Who) {
    loop {
        match door.accept().await {
            Ok(accepted) => return accepted,
            // The client was gone before it was its turn.
            Err(problem) if is_of_one_client(&problem) => {}
            Err(problem) => {
                warn!("HTTP can't accept connections: {problem}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_client(problem: &io::Error) -> bool {
    let kinds = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
    kinds.contains(&problem.kind())
}

async fn connection(
    limits: Limits,
    arrival: Arrival,
    guest: &Arc<Guest>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let Some((stream, way)) = arrival.come_in(limits.handshake).await else { return };
    let far_end = FarEnd::of(&*stream);
    let mut connection = pin!(
        http1::Builder::new()
            // Who sends no more wants its answer all the same: `nc -N`, `shutdown(SHUT_WR)`.
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(REQUEST_BYTES_MAX)
            .serve_connection(
                TokioIo::new(Watched { stream, guest: guest.clone() }),
                TowerToHyperService::new(router.layer(Extension(guest.clone())).layer(Extension(way))),
            )
    );
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = far_end.has_gone() => return,
        () = old_age(limits, guest) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.last_request, connection).await {
        log(ended);
    }
}

/// Returns when a connection has been there for too long: not while it is let stay.
async fn old_age(limits: Limits, guest: &Guest) {
    sleep(limits.age).await;
    guest.stays_no_more().await;
}

fn log(ended: hyper::Result<()>) {
    if let Err(problem) = ended {
        debug!("HTTP connection ended: {problem}");
    }
}

/// A connection that tells when it moves.
struct Watched {
    stream: Box<dyn Stream>,
    guest: Arc<Guest>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.guest.moves(Instant::now());
        Poll::Ready(done)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.guest.moves(Instant::now());
        Poll::Ready(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.guest.moves(Instant::now());
        Poll::Ready(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
