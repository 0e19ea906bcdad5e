//! TLS at the TCP listener: how a client is met, and the thread that does it.
//!
//! A signature takes a millisecond, and whoever likes can ask for one after the other. So connections with TLS are served by a thread of
//! their own, and a flood of them takes nothing of control's time.

use std::io;
use std::net;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::tally::{Handshake, Tally};

/// The first octet of every handshake: the type of its record (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What a client that speaks plain HTTP is told.
const PLAIN_TEXT: &str = "this listener speaks TLS: ask https://\n";
/// How long it may take to read that.
const PLAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// Lower than control: it shares the core with it.
const NICE: i32 = 5;

/// The thread that serves connections with TLS; there once the first has come.
#[derive(Default)]
pub(super) struct TlsThread(Option<Runtime>);

impl TlsThread {
    /// Where to serve them.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub(super) fn handle(&mut self) -> io::Result<Handle> {
        if let Some(runtime) = &self.0 {
            return Ok(runtime.handle().clone());
        }
        // It runs where the thread does that starts it: on control's cores.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("weir-tls")
            .on_thread_start(|| {
                // Without it control is slower in a flood.
                let _ = rustix::process::nice(NICE);
            })
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        self.0 = Some(runtime);
        Ok(handle)
    }
}

impl Drop for TlsThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A page may be in the making, which nobody waits for.
            runtime.shutdown_background();
        }
    }
}

/// A client that is to speak TLS.
pub(super) struct Stranger {
    pub(super) stream: net::TcpStream,
    pub(super) config: Arc<ServerConfig>,
    pub(super) tally: Arc<Tally>,
}

impl Stranger {
    /// Makes the handshake; `None`: there was none within `limit`. On the thread that is to serve the connection.
    pub(super) async fn meet(self, limit: Duration) -> Option<TlsStream<TcpStream>> {
        let Self { stream, config, tally } = self;
        let shake = async {
            let mut stream = TcpStream::from_std(stream)?;
            let mut first = [0];
            if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE_RECORD {
                let is_text = first[0].is_ascii_alphabetic();
                if is_text {
                    // What becomes of the answer is the client's affair.
                    let _ = timeout(PLAIN_TIME_MAX, say_in_plain(&mut stream)).await;
                }
                return Ok(Err(if is_text { Handshake::Plain } else { Handshake::Failed }));
            }
            TlsAcceptor::from(config).accept(stream).await.map(Ok)
        };
        let done: Result<io::Result<_>, _> = timeout(limit, shake).await;
        let (how, stream) = match done {
            Ok(Ok(Ok(stream))) => (Handshake::Done, Some(stream)),
            Ok(Ok(Err(how))) => (how, None),
            Ok(Err(problem)) => {
                debug!("HTTP: a TLS handshake failed: {problem}");
                (Handshake::Failed, None)
            }
            Err(_) => (Handshake::Late, None),
        };
        tally.shaken(how);
        stream
    }
}

async fn say_in_plain(stream: &mut TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PLAIN_TEXT}",
        PLAIN_TEXT.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What is left unread would have the kernel take the answer back.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
