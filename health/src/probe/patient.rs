//! A stream that lets the peer speak first and leave early.
//!
//! A small server may answer as soon as it is connected, and close without having read the request: its host then resets the
//! connection, behind the answer. That is an answer all the same. So nothing is read before the request is on its way, since
//! hyper takes what comes unasked for noise; a request that finds the peer gone counts as sent; and a reset, or an end of TLS
//! without its closing alert, behind something that was heard is an end like any other. Whether the answer was complete by then
//! is for who reads it: one with a length is held to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::Head;
use super::is_cut;

/// See the module.
pub(super) struct Patient<S> {
    stream: S,
    has_asked: bool,
    has_heard: bool,
    is_cut: bool,
    reader: Option<Waker>,
    /// What is heard, up to so many bytes.
    head: (Head, usize),
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, head: Head, bytes_max: usize) -> Self {
        let head = (head, bytes_max);
        Self { stream, has_asked: false, has_heard: false, is_cut: false, reader: None, head }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.has_heard |= buffer.filled().len() > before;
        if let Err(endless) = self.head.0.hear(&buffer.filled()[before..], self.head.1) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, endless)));
        }
        match read {
            Err(problem) if self.has_heard && is_cut(&problem) => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.has_asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        if self.is_cut {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.or_cut(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.or_cut(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        self.or_cut(closed, ())
    }
}

impl<S> Patient<S> {
    fn or_cut<T>(&mut self, done: io::Result<T>, otherwise: T) -> Poll<io::Result<T>> {
        match done {
            Err(problem) if is_cut(&problem) => {
                self.is_cut = true;
                Poll::Ready(Ok(otherwise))
            }
            done => Poll::Ready(done),
        }
    }
}
