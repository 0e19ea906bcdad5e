//! Clients that send no more, and clients that have gone.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use weir_api::edits::Applied;

use crate::http::{HttpState, serve_control};
use crate::metrics::tests::Director;
use crate::orders::{EditOrder, Order};

/// A control socket whose orders the test takes.
struct Socket {
    path: PathBuf,
    orders: mpsc::Receiver<Order>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Socket {
    fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-connections-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (orders, ordered) = crate::orders::channel();
        let file = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n";
        let config = weir_config::parse("test", file).unwrap().config;
        let state = HttpState::new(Director::usual().metrics.clone(), &config.http, orders);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let until = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve_control(listener, state, until)).unwrap();
        });
        Self { path, orders: ordered, stop: Some(stop), thread: Some(thread) }
    }

    /// A client that asks for an edit, and the order that comes of it.
    fn asks(&mut self) -> (UnixStream, EditOrder) {
        let mut client = UnixStream::connect(&self.path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let body = "{\"edits\": [{\"op\": \"clear\"}]}";
        let head =
            format!("POST /api/v1/edits HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(format!("{head}{body}").as_bytes()).unwrap();
        match self.orders.blocking_recv() {
            Some(Order::Edit(order)) => (client, order),
            _ => panic!("no edit"),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_client_that_sends_no_more_has_its_answer() {
    let mut socket = Socket::start("half");
    let (mut client, order) = socket.asks();
    client.shutdown(Shutdown::Write).unwrap();
    // Longer than it takes to see that one has gone.
    thread::sleep(super::super::door::LOOKED_AT * 3);
    assert!(!order.answer.is_closed(), "it waits");
    order.answer.send(Ok(Applied { applied: 1, warnings: Vec::new() })).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"applied\":1"), "{answer}");
}

#[test]
fn a_client_that_has_gone_is_not_held() {
    let mut socket = Socket::start("gone");
    let (client, order) = socket.asks();
    drop(client);
    let begin = Instant::now();
    while !order.answer.is_closed() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is held");
        thread::sleep(Duration::from_millis(20));
    }
    // In two steps as well.
    let (client, order) = socket.asks();
    client.shutdown(Shutdown::Write).unwrap();
    drop(client);
    while !order.answer.is_closed() {
        assert!(begin.elapsed() < Duration::from_secs(40), "it is held");
        thread::sleep(Duration::from_millis(20));
    }
}
