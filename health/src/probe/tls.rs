//! TLS by rustls: who is trusted, connectors that are made once for equal options, and what goes wrong in words.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring as suite, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use weir_config::model::health::TlsOptions;

use super::{Failure, is_cut, system_says};
use crate::judge::Outcome;
use crate::local;

/// Files that can't be read within this are on a file system that hangs. A hundred authorities take some milliseconds.
const FILES_TIMEOUT: Duration = Duration::from_secs(5);

/// A connector, or why there is none; `None`: it is being made.
type Made = Option<Result<TlsConnector, String>>;

/// Connectors by what they trust and who they are; with each configuration anew, so that a reload reads certificates again.
///
/// Each is made by one thread, which all that want it wait for: a file system that hangs takes one thread, however many checks
/// there are.
#[derive(Default)]
pub(super) struct Connectors(Mutex<HashMap<TlsOptions, watch::Receiver<Made>>>);

impl Connectors {
    /// The connector for these options.
    pub(super) async fn with(&self, options: &TlsOptions) -> Result<TlsConnector, Failure> {
        self.made_by(options, FILES_TIMEOUT, make).await
    }

    async fn made_by(
        &self,
        options: &TlsOptions,
        limit: Duration,
        make: fn(&TlsOptions) -> Result<TlsConnector, String>,
    ) -> Result<TlsConnector, Failure> {
        let key = TlsOptions { server_name: None, ..options.clone() };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || {
            let (tell, made) = watch::channel(None);
            let options = key.clone();
            spawn_blocking(move || tell.send_replace(Some(make(&options))));
            made
        };
        let mut made = lock().entry(key.clone()).or_insert_with(begin).clone();
        let waited = match timeout(limit, made.wait_for(Option::is_some)).await {
            Ok(Ok(made)) => made.clone().unwrap_or_else(|| Err("nothing was made".to_owned())),
            Ok(Err(_)) => Err("the thread that reads its files has ended".to_owned()),
            Err(_) => {
                let limit = limit.as_secs_f64();
                let detail =
                    format!("its files are not read after {limit} s: their file system may not answer");
                return Err(Failure::new(Outcome::Error, detail));
            }
        };
        waited.map_err(|detail| {
            // The next check may find better files.
            let mut known = lock();
            if known.get(&key).is_some_and(|known| known.same_channel(&made)) {
                known.remove(&key);
            }
            Failure::new(Outcome::Error, detail)
        })
    }
}

fn make(options: &TlsOptions) -> Result<TlsConnector, String> {
    let provider = Arc::new(suite::default_provider());
    let tls = |problem: Error| format!("TLS: {problem}");
    let authorities = match options.verify {
        true => Some(Authorities::new(options, &provider)?),
        false => None,
    };
    let trust = Arc::new(Trust { provider: provider.clone(), authorities, pins: options.pins.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(trust);
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = local::identity(files)?;
            builder.with_client_auth_cert(chain, key).map_err(tls)?
        }
    };
    // A check is to see the whole handshake.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What rustls says about a handshake that failed.
pub(super) fn failure(problem: &std::io::Error) -> Failure {
    match problem.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(said) => {
            let outcome = match said {
                // What rustls lacks here.
                Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => Outcome::Error,
                _ => Outcome::Tls,
            };
            Failure::new(outcome, format!("TLS: {}", words(said)))
        }
        None => match problem.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Failure::new(Outcome::Tls, "TLS: closed within the handshake")
            }
            _ if problem.raw_os_error().is_none() && !is_cut(problem) => {
                Failure::new(Outcome::Tls, format!("TLS: {}", system_says(problem)))
            }
            _ => Failure::io("TLS handshake", problem),
        },
    }
}

/// What weir speaks, for servers that speak something else.
const SPOKEN: &str = "weir speaks TLS 1.2 and 1.3, with ephemeral keys (ECDHE) and ciphers of the AEAD kind";

fn words(problem: &Error) -> String {
    match problem {
        Error::General(said) => said.clone(),
        Error::InvalidCertificate(problem) => of_certificate(problem),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::HandshakeFailure => format!(
                "the server refuses the handshake (alert handshake_failure): {SPOKEN}; it may also want a client certificate"
            ),
            AlertDescription::ProtocolVersion => {
                format!("the server speaks no version that weir does (alert protocol_version): {SPOKEN}")
            }
            AlertDescription::CertificateRequired => {
                "the server wants a client certificate: write `tls_cert` and `tls_key`".to_owned()
            }
            AlertDescription::UnrecognisedName => {
                "the server does not know the server name (alert unrecognized_name): write `tls_server_name` or `host`".to_owned()
            }
            other => format!("the server sent an alert: {}", apart(other)),
        },
        Error::PeerIncompatible(why) => format!("the server speaks another TLS: {}; {SPOKEN}", apart(why)),
        Error::InvalidMessage(why) => format!("what the server sent is not TLS: {}", apart(why)),
        other => other.to_string(),
    }
}

fn of_certificate(problem: &CertificateError) -> String {
    let said = match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
        CertificateError::NotValidForName => "is for another name",
        CertificateError::NotValidForNameContext { expected, presented } => {
            // Such as `DnsName("www.example.org")`.
            let name = |text: &String| text.split('"').nth(1).unwrap_or(text).to_owned();
            let names: Vec<String> = presented.iter().map(name).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            return format!("the server's certificate is for {names}, not for {}", expected.to_str());
        }
        CertificateError::UnknownIssuer => {
            "is from an authority that is not trusted: name it in `tls_ca`, or the certificate in `tls_pin`"
        }
        CertificateError::BadSignature => "is signed wrongly",
        CertificateError::BadEncoding => "can't be read",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers"
        }
        // The library of certificates has errors of its own, which it tells by their names.
        CertificateError::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "is one of an authority, as self-signed ones are: name it in `tls_ca`, or write its fingerprint in `tls_pin`"
            }
            "EndEntityUsedAsCa" => "is signed by one that may not sign others",
            "UnsupportedCertVersion" => "is not of version 3 of X.509",
            name => return format!("the server's certificate is not accepted: {}", apart(&name)),
        },
        other => return format!("the server's certificate is not accepted: {}", apart(other)),
    };
    format!("the server's certificate {said}")
}

/// A name of the library as words: `CertNotYetValid` is "cert not yet valid".
fn apart(name: &impl fmt::Debug) -> String {
    let name = format!("{name:?}");
    let mut words = String::new();
    let mut before = ' ';
    for c in name.trim_matches('"').chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
        before = c;
    }
    words
}

/// Which certificates are good enough.
#[derive(Debug)]
struct Trust {
    provider: Arc<CryptoProvider>,
    /// `None`: any certificate will do, as long as whoever shows it has its key.
    authorities: Option<Authorities>,
    /// SHA-256 of those that will do; empty: all.
    pins: Vec<[u8; 32]>,
}

#[derive(Debug)]
struct Authorities {
    rules: Arc<WebPkiServerVerifier>,
    /// The certificates themselves. One of them may be the server's own, self-signed, although it is an authority's by its form.
    known: Vec<CertificateDer<'static>>,
}

impl Authorities {
    fn new(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let file = match &options.ca {
            Some(file) => file.as_path(),
            None => local::system_authorities()?,
        };
        let at = |problem: &dyn fmt::Display| format!("{}: {problem}", file.display());
        let known = local::certificates(file).map_err(|problem| at(&problem))?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(known.iter().cloned());
        if added == 0 {
            return Err(at(&"no certificate in it can be used"));
        }
        let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let known = if options.ca.is_some() { known } else { Vec::new() };
        Ok(Self { rules: rules.build().map_err(|problem| at(&problem))?, known })
    }

    fn verify(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.rules.verify_server_cert(shown, between, name, ocsp, now) {
            Ok(_) => Ok(()),
            // Dates were looked at before that; the name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string() == "CaUsedAsEndEntity" && self.known.iter().any(|it| it == shown) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)
            }
            Err(problem) => Err(problem),
        }
    }
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
        let found = digest(&SHA256, shown);
        if !self.pins.is_empty() && !self.pins.iter().any(|pin| pin == found.as_ref()) {
            let hex: Vec<String> = found.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
            let hex = hex.join(":");
            return Err(Error::General(format!(
                "the server's certificate is another than `tls_pin` says: SHA-256 {hex}"
            )));
        }
        if let Some(authorities) = &self.authorities {
            authorities.verify(shown, between, name, ocsp, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn files_that_do_not_come_take_one_thread_and_those_that_are_wrong_are_read_again() {
        static READS: AtomicUsize = AtomicUsize::new(0);
        static IS_THERE: AtomicBool = AtomicBool::new(false);
        let hanging = |options: &TlsOptions| {
            let reads = READS.fetch_add(1, SeqCst) + 1;
            while !IS_THERE.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if reads == 1 { Err("it is no certificate".to_owned()) } else { make(options) }
        };
        let options =
            TlsOptions { verify: false, ca: None, identity: None, pins: Vec::new(), server_name: None };
        let connectors = Connectors::default();
        for server_name in ["a", "b", "c"] {
            let options = TlsOptions { server_name: Some(server_name.to_owned()), ..options.clone() };
            let problem = connectors.made_by(&options, Duration::from_millis(20), hanging).await;
            let detail = "its files are not read after 0.02 s: their file system may not answer";
            assert_eq!(problem.err(), Some(Failure::new(Outcome::Error, detail)));
        }
        assert_eq!(READS.load(SeqCst), 1);
        IS_THERE.store(true, SeqCst);
        let limit = Duration::from_secs(60);
        let problem = connectors.made_by(&options, limit, hanging).await.err();
        assert_eq!(problem, Some(Failure::new(Outcome::Error, "it is no certificate")));
        for _ in 0..3 {
            assert!(connectors.made_by(&options, limit, hanging).await.is_ok());
        }
        assert_eq!(READS.load(SeqCst), 2);
    }
}
