//! TLS by rustls: who is trusted, and connectors that are made once for equal options.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use weir_config::model::health::TlsOptions;

use super::Failure;
use crate::judge::Outcome;

/// Where systems keep the authorities they trust: Debian, Fedora, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Connectors by what they trust; with each configuration anew, so that a reload reads certificates again.
#[derive(Default)]
pub(super) struct Connectors(Mutex<HashMap<(bool, Option<PathBuf>), TlsConnector>>);

impl Connectors {
    /// The connector for these options.
    pub(super) fn with(&self, options: &TlsOptions) -> Result<TlsConnector, Failure> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (options.verify, options.ca.clone());
        if let Some(connector) = made.get(&key) {
            return Ok(connector.clone());
        }
        let connector = make(options).map_err(|detail| Failure::new(Outcome::Error, detail))?;
        made.insert(key, connector.clone());
        Ok(connector)
    }
}

fn make(options: &TlsOptions) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|problem| format!("TLS: {problem}"))?;
    let mut config = if options.verify {
        builder.with_root_certificates(authorities(options.ca.as_deref())?).with_no_client_auth()
    } else {
        let anyone = Arc::new(Anyone(provider));
        builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()
    };
    // A check is to see the whole handshake.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let file = match file {
        Some(file) => file,
        None => {
            let known = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
            known.ok_or("the system has no file of trusted certificates; write `tls_ca`")?
        }
    };
    let at = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(|problem| at(&problem))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|problem| at(&problem))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(at(&"no certificate in it"));
    }
    Ok(roots)
}

/// What rustls says about a handshake that failed.
pub(super) fn failure(problem: &std::io::Error) -> Failure {
    match problem.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(said) => Failure::new(Outcome::Tls, format!("TLS: {said}")),
        None => match problem.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Failure::new(Outcome::Tls, "TLS: closed within the handshake")
            }
            _ => Failure::io("TLS handshake", problem),
        },
    }
}

/// Takes any certificate, as long as whoever shows it has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
