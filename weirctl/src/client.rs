//! weir's API as a client sees it: HTTP/1.1 over the unix socket, or over TCP to the read-only listener. One request at a time, each
//! bounded in time and size.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use weir_api::connections::Connection;
use weir_api::edits::{self, Applied, Edit, Refused, Timeouts};
use weir_api::virtual_servers::{self, VirtualServer};

use crate::web::{self, Stream, Web};
use crate::weir::{Each, Problem, Weir};

/// How long weir may take to the next piece of an answer. A page of 100 MB takes it a second, and it makes a few at a time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to the end of an answer that is no stream. weir closes a connection after 70 s.
const WHOLE: Duration = Duration::from_secs(75);
/// Between two attempts to connect where others wait as well.
const TURN: Duration = Duration::from_millis(5);
/// The largest answer that is kept whole: 65,535 virtual servers with their real servers are some 100 MB.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// The type of a stream of lines.
const LINES: &str = "application/x-ndjson";
/// The longest line of a stream.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where weir is asked.
#[derive(Clone)]
pub enum Door {
    /// Its unix socket, which takes edits.
    Socket(PathBuf),
    /// Its HTTP listener, which only shows.
    Http(SocketAddr),
    /// The same by its URL, with TLS and a token, with which it takes edits.
    Web(Box<Web>),
}

impl fmt::Debug for Door {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({self})")
    }
}

/// See the module.
pub struct Client {
    door: Door,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
    patience: Duration,
    /// The process that listens, where the kernel says.
    peer: Option<u32>,
    whole: Duration,
}

impl Client {
    /// Asks at this door. Nothing is connected yet.
    ///
    /// # Errors
    /// The kernel gives no means to wait.
    pub fn new(door: Door) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { door, runtime, sender: None, patience: PATIENCE, whole: WHOLE, peer: None })
    }

    /// Waits no longer than this for the next piece of an answer.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it asks.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// The process that listens at the socket, if somebody does and the kernel says who.
    pub(crate) fn peer(&mut self) -> Option<u32> {
        self.sender = self.connect().ok();
        self.peer
    }

    /// What is at `path`.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Problem> {
        let body = self.ask(Method::GET, path, Bytes::new())?;
        self.read(&body)
    }

    /// What is at `path`, and as it came.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) fn get_with_text<T: DeserializeOwned>(&mut self, path: &str) -> Result<(T, String), Problem> {
        let body = self.ask(Method::GET, path, Bytes::new())?;
        let read = self.read(&body)?;
        let text = String::from_utf8(body).map_err(|_| self.strange("bytes that are no text"))?;
        Ok((read, text))
    }

    /// The answer to `asked`.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn post<T: DeserializeOwned>(&mut self, path: &str, asked: &impl Serialize) -> Result<T, Problem> {
        let only_shows = match &self.door {
            Door::Socket(_) => false,
            Door::Http(_) => true,
            Door::Web(web) => web.bearer.is_none(),
        };
        if only_shows {
            return Err(Problem::Failed(format!(
                "weir's listener at {} only shows; changes go through its socket (--socket), or take a token (--url https://..., --token-file)",
                self.door
            )));
        }
        let asked = serde_json::to_vec(asked).map_err(|problem| Problem::Failed(problem.to_string()))?;
        let body = self.ask(Method::POST, path, asked.into())?;
        self.read(&body)
    }

    /// Takes away what is at `path`. Returns what weir says of it.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) fn delete(&mut self, path: &str) -> Result<String, Problem> {
        let body = self.ask(Method::DELETE, path, Bytes::new())?;
        match String::from_utf8(body) {
            Ok(text)
                if !text.trim().is_empty() && !text.contains(|it: char| it.is_control() && it != '\n') =>
            {
                Ok(text)
            }
            _ => Err(self.strange("no sentence")),
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Problem> {
        serde_json::from_slice(body).map_err(|problem| self.strange(&problem.to_string()))
    }

    fn strange(&self, what: &str) -> Problem {
        Problem::Failed(format!(
            "what answers at {} does not speak weirctl's language ({what}); is it a weir of version {}?",
            self.door,
            env!("CARGO_PKG_VERSION")
        ))
    }

    /// The whole body of an answer that says yes.
    fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Vec<u8>, Problem> {
        let begin = Instant::now();
        let answer = self.send(method, path, body)?;
        let status = answer.status();
        let mut stream = answer.into_body();
        let mut whole = Vec::new();
        while let Some(bytes) = self.next(&mut stream, begin + self.whole)? {
            if whole.len() + bytes.len() > ANSWER_BYTES_MAX {
                self.sender = None;
                return Err(Problem::Failed(format!(
                    "the answer is larger than {} MiB; ask for less of it",
                    ANSWER_BYTES_MAX >> 20
                )));
            }
            whole.extend_from_slice(&bytes);
        }
        match status {
            StatusCode::OK => Ok(whole),
            status => Err(self.refusal(status, path, &whole)),
        }
    }

    fn refusal(&self, status: StatusCode, path: &str, body: &[u8]) -> Problem {
        if let Ok(Refused { mut error }) = serde_json::from_slice(body) {
            // A terminal would obey them.
            let told = |it: char| it == '\n' || !it.is_control();
            error.text.retain(told);
            error.report = error.report.map(|report| report.chars().filter(|it| told(*it)).collect());
            return Problem::Refused(error);
        }
        if let (StatusCode::UNAUTHORIZED, Door::Web(web)) = (status, &self.door) {
            let why = match web.bearer {
                Some(_) => "does not know this token (--token-file)",
                None => "wants a token: name a file that holds one (--token-file)",
            };
            return Problem::Failed(format!("weir at {} {why}", self.door));
        }
        if status.is_success() {
            return self.strange(&format!("status {status}"));
        }
        if status == StatusCode::NOT_FOUND {
            return Problem::Failed(format!(
                "the weir at {} has no {}; is it of version {}?",
                self.door,
                path.split('?').next().unwrap_or_default(),
                env!("CARGO_PKG_VERSION")
            ));
        }
        let text = String::from_utf8_lossy(body);
        match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => Problem::Failed(line.chars().filter(|it| !it.is_control()).take(500).collect()),
            None => Problem::Failed(format!("weir answers with status {status}")),
        }
    }

    /// A kept connection may have been closed by weir meanwhile, which shows only when something is sent. So what changes something gets a
    /// connection of its own, and a question is asked again on a new one (RFC 9110 section 9.2.2).
    fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Problem> {
        let kept = self.sender.take().filter(|sender| method == Method::GET && !sender.is_closed());
        if let Some(sender) = kept {
            match self.send_on(sender, self.request(&method, path, body.clone())?) {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(_)) => {}
                None => return Err(self.late()),
            }
        }
        let sender = self.connect()?;
        match self.send_on(sender, self.request(&method, path, body)?) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(problem)) => Err(self.broken(&problem.to_string())),
            None => Err(self.late()),
        }
    }

    /// The head of the answer, and the connection is kept. None when it does not come in time.
    fn send_on(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Option<hyper::Result<Response<Incoming>>> {
        let answer = self.runtime.block_on(async {
            let sent = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            timeout(self.patience, sent).await
        });
        if let Ok(Ok(_)) = answer {
            self.sender = Some(sender);
        }
        answer.ok()
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Problem> {
        let host = match &self.door {
            Door::Socket(_) => "localhost".to_owned(),
            Door::Http(address) => address.to_string(),
            Door::Web(web) => web.url.authority(),
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Door::Web(web) = &self.door
            && let Some(bearer) = &web.bearer
        {
            request = request.header(AUTHORIZATION, bearer);
        }
        if *method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body)).map_err(|problem| Problem::Failed(problem.to_string()))
    }

    fn broken(&mut self, why: &str) -> Problem {
        self.sender = None;
        Problem::Failed(format!("weir at {} broke the connection off: {why}", self.door))
    }

    fn late(&mut self) -> Problem {
        self.sender = None;
        Problem::Failed(format!(
            "weir at {} has not answered for {} s; its log and `weirctl status` may say why",
            self.door,
            self.patience.as_secs()
        ))
    }

    fn endless(&mut self) -> Problem {
        self.sender = None;
        let whole = self.whole.as_secs();
        Problem::Failed(format!(
            "weir at {} has not come to the end of its answer within {whole} s",
            self.door
        ))
    }

    /// The next piece of an answer, which has to be there by `until`.
    fn next(&mut self, stream: &mut Incoming, until: Instant) -> Result<Option<Bytes>, Problem> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.endless());
            }
            match self.runtime.block_on(next_frame(stream, self.patience.min(left))) {
                Err(()) if left < self.patience => return Err(self.endless()),
                Err(()) => return Err(self.late()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(problem))) => return Err(self.broken(&problem.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The pieces of an answer, as they come; between two of them weir may take as long as `patience`. An interrupt calls `stop`, after
    /// which the answer is read to its end; a second one ends it at once.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) fn pieces(
        &mut self,
        path: &str,
        patience: Duration,
        stop: &mut dyn FnMut(),
        each: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut signals = {
            let _runtime = self.runtime.enter();
            let signals =
                signal(SignalKind::interrupt()).and_then(|it| Ok((it, signal(SignalKind::terminate())?)));
            signals.map_err(|problem| Problem::Failed(problem.to_string()))?
        };
        let answer = self.send(Method::POST, path, Bytes::new())?;
        let status = answer.status();
        let mut stream = answer.into_body();
        let mut refused = Vec::new();
        let mut is_interrupted = false;
        loop {
            let next = self.runtime.block_on(async {
                tokio::select! {
                    next = next_frame(&mut stream, patience) => Some(next),
                    _ = signals.0.recv() => None,
                    _ = signals.1.recv() => None,
                }
            });
            let frame = match next {
                None if is_interrupted => {
                    self.sender = None;
                    return Err(Problem::Failed("interrupted".to_owned()));
                }
                None => {
                    is_interrupted = true;
                    stop();
                    continue;
                }
                Some(Err(())) => return Err(self.late()),
                Some(Ok(None)) => break,
                Some(Ok(Some(Err(problem)))) => return Err(self.broken(&problem.to_string())),
                Some(Ok(Some(Ok(frame)))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            if !status.is_success() {
                refused.extend(bytes.iter().take(LINE_BYTES_MAX.saturating_sub(refused.len())));
            } else if let Err(problem) = each(&bytes) {
                // What is still on its way is of no use.
                self.sender = None;
                return Err(problem);
            }
        }
        if status.is_success() { Ok(()) } else { Err(self.refusal(status, path, &refused)) }
    }

    /// The lines of an answer, as they come.
    fn lines(
        &mut self,
        path: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let begin = Instant::now();
        let answer = self.send(Method::GET, path, Bytes::new())?;
        let status = answer.status();
        let is_stream = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == LINES);
        if status == StatusCode::OK && !is_stream {
            // An empty one says that there is nothing, so it has to be one.
            self.sender = None;
            return Err(self.strange("no stream of lines"));
        }
        let mut stream = answer.into_body();
        let mut line = Vec::new();
        let mut refused = Vec::new();
        // A stream may go on and on, but not without a line.
        let mut until = begin + self.whole;
        while let Some(bytes) = self.next(&mut stream, until)? {
            if status != StatusCode::OK {
                refused.extend(bytes.iter().take(LINE_BYTES_MAX.saturating_sub(refused.len())));
                continue;
            }
            let mut rest = &bytes[..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                until = Instant::now() + self.whole;
                if let Err(problem) = each(&line) {
                    // What is still on its way is of no use.
                    self.sender = None;
                    return Err(problem);
                }
                line.clear();
            }
            line.extend_from_slice(rest);
            if line.len() > LINE_BYTES_MAX {
                self.sender = None;
                return Err(self.strange("a line without an end"));
            }
        }
        match (status == StatusCode::OK, line.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(self.broken("in the middle of a line")),
            (false, _) => Err(self.refusal(status, path, &refused)),
        }
    }

    fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, Problem> {
        let door = self.door.clone();
        let failed = |problem: io::Error| Problem::Failed(unreachable(&door, &problem));
        let connected = self.runtime.block_on(async {
            let connect = async {
                match &self.door {
                    Door::Socket(path) => {
                        let stream = connect_in_turn(path).await?;
                        let pid = stream.peer_cred().ok().and_then(|it| it.pid()?.try_into().ok());
                        Ok((shake(stream).await?, pid))
                    }
                    Door::Http(address) => Ok((shake(TcpStream::connect(address).await?).await?, None)),
                    Door::Web(web) => {
                        let sender = match web.connect().await? {
                            Stream::Plain(stream) => shake(stream).await?,
                            Stream::Tls(stream) => shake(*stream).await?,
                        };
                        Ok((sender, None))
                    }
                }
            };
            timeout(self.patience, connect).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        });
        let (sender, peer) = connected.map_err(failed)?;
        self.peer = peer;
        Ok(sender)
    }
}

/// The kernel refuses at once while as many wait for weir as may wait, which is over in a moment.
async fn connect_in_turn(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => sleep(TURN).await,
            done => return done,
        }
    }
}

async fn next_frame(
    stream: &mut Incoming,
    patience: Duration,
) -> Result<Option<hyper::Result<hyper::body::Frame<Bytes>>>, ()> {
    timeout(patience, stream.frame()).await.map_err(|_| ())
}

/// Begins HTTP on a connection, which is then driven whenever the runtime waits for something.
async fn shake<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // How it ends is seen by who waits for an answer.
    drop(tokio::spawn(connection));
    Ok(sender)
}

fn unreachable(door: &Door, problem: &io::Error) -> String {
    if let Some(why) = web::why_not(problem) {
        return format!("weir can't be asked at {door}: {why}");
    }
    let why = match (door, problem.kind()) {
        (Door::Socket(_), ErrorKind::NotFound) => {
            "there is no such socket; is weir running, and does `[control] socket` of its file name this one (--socket)?"
        }
        (Door::Socket(_), ErrorKind::PermissionDenied) => "permission denied; the socket is for root",
        (_, ErrorKind::ConnectionRefused) => "nobody listens there; is weir running?",
        (_, ErrorKind::TimedOut) => "it does not answer",
        _ => return format!("weir can't be asked at {door}: {problem}"),
    };
    format!("weir can't be asked at {door}: {why}")
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Socket(path) => write!(f, "{}", path.display()),
            Door::Http(address) => write!(f, "{address}"),
            Door::Web(web) => write!(f, "{}", web.url),
        }
    }
}

impl Weir for Client {
    fn virtual_servers(&mut self, count_templates: bool) -> Result<Vec<VirtualServer<'static>>, Problem> {
        let query = if count_templates { "?templates=count" } else { "" };
        let listing: virtual_servers::Listing<'static> =
            self.get(&format!("/api/v1/virtual_servers{query}"))?;
        Ok(listing.virtual_servers)
    }

    fn connections(&mut self, query: &str, each: &mut Each<'_>) -> Result<(), Problem> {
        let mut strange = None;
        let path = format!("/api/v1/connections?stream=yes{query}");
        let read = self.lines(&path, &mut |line| match serde_json::from_slice::<Connection<'_>>(line) {
            Ok(connection) => each(connection).map_err(Problem::from),
            Err(problem) => {
                strange = Some(problem.to_string());
                Err(Problem::Unread)
            }
        });
        match strange {
            Some(problem) => Err(self.strange(&problem)),
            None => read,
        }
    }

    fn timeouts(&mut self) -> Result<Timeouts, Problem> {
        self.get("/api/v1/timeouts")
    }

    fn edit(&mut self, edits: Vec<Edit>) -> Result<Applied, Problem> {
        self.post("/api/v1/edits", &edits::Request { edits, dry_run: false })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use weir_api::edits::Kind;

    use super::*;

    /// A client of somebody who takes one connection for each of `answers`, reads a request on it and says that; one that is empty is
    /// never given.
    fn against(name: &str, answers: &[&str]) -> (Client, JoinHandle<()>) {
        let path = std::env::temp_dir().join(format!("weirctl-client-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let thread = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                if answer.is_empty() {
                    // Until the client has had enough.
                    let _ = stream.read(&mut request);
                }
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let mut client = Client::new(Door::Socket(path)).unwrap();
        client.patience = Duration::from_secs(20);
        (client, thread)
    }

    fn page(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_closed_connection_is_made_anew_and_refusals_are_understood() {
        let refused = r#"{"error":{"edit":0,"kind":"exists","text":"there \u001b[2Jis one"}}"#;
        let good = r#"{"tcp_established":900,"tcp_fin_wait":120,"udp":300}"#;
        let answers = [
            page("200 OK", good),
            page("422 Unprocessable Content", refused),
            page("503 Service Unavailable", "later\n"),
        ];
        let (mut client, thread) = against("good", &answers.each_ref().map(String::as_str));
        assert_eq!(client.timeouts().unwrap().udp, 300);
        match client.edit(vec![Edit::Clear]).unwrap_err() {
            Problem::Refused(refusal) => {
                assert_eq!((refusal.kind, refusal.edit), (Kind::Exists, Some(0)));
                assert_eq!(refusal.text, "there [2Jis one", "a terminal would obey the rest");
            }
            problem => panic!("{problem}"),
        }
        assert_eq!(client.timeouts().unwrap_err().to_string(), "later");
        thread.join().unwrap();
    }

    /// Between two requests nothing drives the connection, so the client learns only while it sends that weir has closed it.
    #[test]
    fn a_connection_that_was_closed_between_two_requests_is_made_anew() {
        let path = std::env::temp_dir().join(format!("weirctl-client-kept-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (read, is_read) = std::sync::mpsc::channel();
        let (closed, is_closed) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            for _ in 0..20 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                assert_ne!(stream.read(&mut request).unwrap(), 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                is_read.recv().unwrap();
                drop(stream);
                closed.send(()).unwrap();
            }
        });
        let mut client = Client::new(Door::Socket(path)).unwrap();
        for _ in 0..10 {
            let _: serde_json::Value = client.get("/api/v1/timeouts").unwrap();
            read.send(()).unwrap();
            is_closed.recv().unwrap();
            let _: serde_json::Value = client.post("/api/v1/edits", &()).unwrap();
            read.send(()).unwrap();
            is_closed.recv().unwrap();
        }
        thread.join().unwrap();
    }

    #[test]
    fn who_does_not_speak_the_language_is_told_in_a_sentence() {
        let answers =
            ["\x00\x01garbage\r\n\r\n".to_owned(), page("200 OK", "<html>"), page("404 Not Found", "")];
        let (mut client, thread) = against("strange", &answers.each_ref().map(String::as_str));
        for part in
            ["broke the connection off", "does not speak weirctl's language", "has no /api/v1/timeouts"]
        {
            let problem = client.timeouts().unwrap_err().to_string();
            assert!(problem.contains(part) && !problem.contains('\n'), "{problem}");
        }
        thread.join().unwrap();
    }

    #[test]
    fn who_does_not_answer_is_waited_for_so_long() {
        let (mut client, thread) = against("silent", &[""]);
        client.patience = Duration::from_millis(50);
        assert!(client.timeouts().unwrap_err().to_string().contains("has not answered for 0 s"));
        drop(client);
        thread.join().unwrap();
    }

    #[test]
    fn a_stream_is_read_line_by_line_and_one_that_breaks_off_is_no_whole() {
        let line = r#"{"worker":0,"protocol":"tcp","client":"10.0.0.1","client_port":1,"virtual_server":"web","address":null,"port":80,"real_server":"10.0.0.2","real_server_port":80,"state":"CLOSE","expires":9,"persistent":false}"#;
        let lines = format!("{line}\n{line}\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n";
        let broken = format!("{head}Content-Length: 9999\r\n\r\n{lines}{{");
        let endless = format!("{head}Connection: close\r\n\r\n{}", "x".repeat(2 * LINE_BYTES_MAX));
        let answers = [
            format!("{head}Connection: close\r\n\r\n{lines}"),
            broken,
            endless,
            page("400 Bad Request", "client is no address\n"),
            format!("{head}Content-Length: 0\r\n\r\n"),
            page("200 OK", ""),
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            page("206 Partial Content", &lines),
        ];
        let (mut client, thread) = against("stream", &answers.each_ref().map(String::as_str));
        let mut read = |parts: &str| {
            let mut count = 0;
            let ended = client.connections("", &mut |connection| {
                count += u64::from(connection.virtual_server == "web");
                Ok(())
            });
            let said = ended.map_or_else(|problem| problem.to_string(), |()| String::new());
            assert!(said.contains(parts), "{said}");
            count
        };
        assert_eq!(read(""), 2);
        assert_eq!(read("broke the connection off"), 2);
        assert_eq!(read("a line without an end"), 0);
        assert_eq!(read("client is no address"), 0);
        assert_eq!(read(""), 0, "there are none");
        for strange in ["no stream of lines", "status 204", "status 206"] {
            assert_eq!(read(strange), 0);
        }
        thread.join().unwrap();
    }

    #[test]
    fn an_answer_that_drips_or_never_begins_comes_to_an_end() {
        let path = std::env::temp_dir().join(format!("weirctl-client-drips-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let thread = thread::spawn(move || {
            let stream =
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
            for (head, more) in [
                ("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", " "),
                ("", "HTTP/1.1 100 Continue\r\n\r\n"),
                (stream, "1\r\nx\r\n"),
            ] {
                let (mut client, _) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(head.as_bytes());
                // Until the client has had enough.
                while client.write_all(more.as_bytes()).is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let mut client = Client::new(Door::Socket(path)).unwrap();
        (client.patience, client.whole) = (Duration::from_millis(900), Duration::from_millis(1_500));
        let said = client.timeouts().unwrap_err().to_string();
        assert!(said.contains("not come to the end of its answer within 1 s"), "{said}");
        let said = client.timeouts().unwrap_err().to_string();
        assert!(said.contains("has not answered for 0 s"), "{said}");
        let said = client.connections("", &mut |_| Ok(())).unwrap_err().to_string();
        assert!(said.contains("not come to the end of its answer within 1 s"), "{said}");
        drop(client);
        thread.join().unwrap();
    }

    #[test]
    fn the_listener_takes_no_changes() {
        let mut client = Client::new(Door::Http("127.0.0.1:1".parse().unwrap())).unwrap();
        let problem = client.edit(vec![Edit::Clear]).unwrap_err().to_string();
        assert!(problem.contains("only shows"), "{problem}");
    }
}
