//! Connections of the HTTP door: how many there are, how long they may take, how they end.
//!
//! Whoever reaches the listening address can hold so many connections and no more; the next ones wait in the kernel's
//! queue. Each takes [`REQUEST_BYTES_MAX`] of memory besides the page it reads, and is closed when a request's header
//! takes too long to arrive or when it is too old, however slowly it reads. So slow clients delay others by seconds
//! and take a bounded amount of memory. [`Limits`] has the figures.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{HttpState, router};

/// Request line and headers; Prometheus sends 300 bytes, a browser 1,000. Also what a connection reads ahead.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Pause when no connection can be accepted for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What clients can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
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
    /// million samples over a slow line fits into the age.
    pub(super) const USUAL: Self = Self {
        connections: 64,
        header: Duration::from_secs(10),
        age: Duration::from_secs(60),
        last_request: Duration::from_secs(10),
        stop: Duration::from_secs(1),
    };
}

/// Answers until `shutdown`, then lets requests that are under way end within a second.
///
/// # Errors
/// The listener can't be watched. Problems of single connections only concern those.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::USUAL, listener, state, shutdown).await
}

/// As [`serve`], with limits of one's own.
pub(super) async fn serve_within(
    limits: Limits,
    listener: std::net::TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let router = router(state);
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < limits.connections => {
                connections.spawn(connection(limits, stream, router.clone(), stopping.subscribe()));
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let _ = timeout(limits.stop, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
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

async fn connection(limits: Limits, stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Answers are written as a whole, so there is nothing to collect into larger segments.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(REQUEST_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = sleep(limits.age) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.last_request, connection).await {
        log(ended);
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(problem) = ended {
        debug!("HTTP connection ended: {problem}");
    }
}
