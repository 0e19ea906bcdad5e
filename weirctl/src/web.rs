//! weir's HTTP listener by its URL: with TLS and a token it answers other machines, and takes changes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::http::uri::{Scheme, Uri};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::patiently;
use crate::weir::Problem;

/// The port of a listener whose file does not say.
const PORT: u16 = 9292;
/// Where systems keep the authorities they trust: Debian, Fedora, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// A file of certificates is no larger.
const PEM_BYTES_MAX: u64 = 16 << 20;
/// Nor one that holds a token.
const TOKEN_BYTES_MAX: u64 = 4 << 10;

/// `https://HOST[:PORT]`, or `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write https://ADDRESS:PORT".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong()),
        };
        let (Some(authority), "" | "/", None) = (uri.authority(), uri.path(), uri.query()) else {
            return Err(wrong());
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(PORT);
        let said = Self { is_tls, host, port };
        // A name of a user, or a port that is none.
        let is_whole = [said.authority(), said.authority().trim_end_matches(&format!(":{PORT}")).to_owned()];
        if is_whole.iter().any(|it| it == authority.as_str()) { Ok(said) } else { Err(wrong()) }
    }
}

impl Url {
    /// `HOST:PORT`, as in a request's Host.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.is_tls { "s" } else { "" }, self.authority())
    }
}

/// A listener, and what it takes to be known there.
#[derive(Clone)]
pub struct Web {
    pub(crate) url: Url,
    /// `None`: plain HTTP.
    tls: Option<Arc<ClientConfig>>,
    /// `Bearer TOKEN`.
    pub(crate) bearer: Option<HeaderValue>,
}

impl Web {
    /// Trusts the authorities of `ca`, else those of this system, and shows the token in `token_file`.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(crate) fn new(url: Url, ca: Option<&Path>, token_file: Option<&Path>) -> Result<Self, Problem> {
        if !url.is_tls && token_file.is_some() {
            return Err(Problem::Failed(format!(
                "a token sent to {url} would be for all to read: ask https://"
            )));
        }
        let at = |path: &Path, why: String| Problem::Failed(format!("{}: {why}", path.display()));
        let bearer = token_file.map(|file| patiently(file, || token(file)).map_err(|why| at(file, why)));
        let bearer = bearer.transpose()?;
        let tls = url.is_tls.then(|| {
            let found = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
            let file = ca.map(Path::to_owned).or(found).ok_or_else(|| {
                Problem::Failed("this system has no file of authorities: name one (--ca)".to_owned())
            })?;
            patiently(&file, || trusting(&file, ca.is_some())).map_err(|why| at(&file, why))
        });
        Ok(Self { url, tls: tls.transpose()?, bearer })
    }

    /// A connection, in the clear or after a handshake.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from(self.url.host.clone());
        let name = name.map_err(|problem: InvalidDnsNameError| io::Error::other(problem))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// See [`Web::connect`].
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What rustls says about a handshake that failed, for people; `None`: it is something else.
pub(crate) fn why_not(problem: &io::Error) -> Option<String> {
    let said = problem.get_ref()?.downcast_ref::<Error>()?;
    let trust = "name its authority, or the certificate itself, in --ca";
    Some(match said {
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                format!("its certificate is from an authority that is not trusted: {trust}")
            }
            CertificateError::Other(other) if is_authority(other) => {
                format!("its certificate is one of an authority, as self-signed ones are: {trust}")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name or address".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            other => format!("its certificate is not good: {other}"),
        },
        Error::InvalidMessage(_) => "what answers there speaks no TLS: is it http://?".to_owned(),
        other => format!("TLS: {other}"),
    })
}

/// The library of certificates has errors of its own, which it tells by their names.
fn is_authority(problem: &OtherError) -> bool {
    problem.to_string() == "CaUsedAsEndEntity"
}

/// The token in a file that holds no other; a role before it, as in weir's own file, is left out.
fn token(file: &Path) -> Result<HeaderValue, String> {
    let text = weir_config::read_file(file, TOKEN_BYTES_MAX).map_err(|problem| problem.to_string())?;
    let text = str::from_utf8(&text).map_err(|_| "it is no text".to_owned())?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err("it has to hold one token, in one line".to_owned());
    };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let ([token] | ["read" | "write", token]) = words[..] else {
        return Err("it has to hold one token, in one line".to_owned());
    };
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token holds what no token may".to_owned())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Trusts the authorities in a file; with `itself`, a certificate in it as well.
fn trusting(file: &Path, itself: bool) -> Result<Arc<ClientConfig>, String> {
    let text = weir_config::read_file(file, PEM_BYTES_MAX).map_err(|problem| problem.to_string())?;
    let known: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let known = known.map_err(|problem| format!("it is not PEM: {problem}"))?;
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(known.iter().cloned()).0 == 0 {
        return Err("there is no certificate in PEM in it".to_owned());
    }
    let provider = Arc::new(default_provider());
    let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let rules = rules.build().map_err(|problem| problem.to_string())?;
    let known = if itself { known } else { Vec::new() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust { rules, known }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The library's rules, and one more: a certificate that the user has named is good, though by its form it may be one of an authority, as
/// self-signed ones are.
#[derive(Debug)]
struct Trust {
    rules: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.rules.verify_server_cert(shown, between, name, ocsp, now) {
            // Dates were looked at before that; the name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if is_authority(&other) && self.known.iter().any(|it| it == shown) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_and_where_weir_listens() {
        let shown = |text: &str| text.parse::<Url>().map(|it| it.to_string());
        assert_eq!(shown("https://10.0.0.2:9292").unwrap(), "https://10.0.0.2:9292");
        assert_eq!(shown("https://director1.example.com/").unwrap(), "https://director1.example.com:9292");
        assert_eq!(shown("http://[::1]:80").unwrap(), "http://[::1]:80");
        assert_eq!(shown("https://[2001:db8::1]").unwrap(), "https://[2001:db8::1]:9292");
        for wrong in [
            "",
            "10.0.0.2:9292",
            "ftp://10.0.0.2",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u:p@a:1",
            "https://a:99999",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_holds_one_token_with_its_role_or_without() {
        let path = std::env::temp_dir().join(format!("weirctl-token-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            token(&path).map(|it| it.to_str().unwrap().to_owned())
        };
        for good in ["abc\n", "# mine\n\n  read abc", "write\tabc\r\n"] {
            assert_eq!(read(good).unwrap(), "Bearer abc", "{good:?}");
        }
        for wrong in ["", "# abc\n", "abc\ndef\n", "admin abc", "a\u{7}"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn no_token_goes_out_in_the_clear() {
        let problem =
            Web::new("http://10.0.0.2".parse().unwrap(), None, Some(Path::new("/none"))).err().unwrap();
        assert!(problem.to_string().contains("ask https://"), "{problem}");
    }
}
