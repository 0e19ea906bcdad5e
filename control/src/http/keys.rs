//! What the TCP listener shows and asks for: its certificate, and the tokens that it takes.
//!
//! Read with the file, at the start and at each reload, beside control: a file system may hang. Connections that there are go on with what
//! they began with; their next request is judged by the tokens of that moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::ServerConfig;
use rustls::crypto::ring as suite;
use rustls::version::{TLS12, TLS13};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use weir_config::model::Http;
use weir_config::model::health::TlsIdentity;
use weir_config::tokens::{Role, Token};
use weir_health::{local, validity};

/// What is in force; a reload puts others there.
pub(crate) type Keyring = Arc<ArcSwap<Keys>>;

/// See the module. Without anything: plain HTTP, and nobody is asked who they are.
#[derive(Default)]
pub(crate) struct Keys {
    /// `None`: the listener speaks plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// `None`: nobody is asked for a token.
    pub(super) tokens: Option<Tokens>,
    /// Of `tls`.
    pub(crate) certificate: Option<Certificate>,
}

/// What is known of the certificate that the listener shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    /// When it, or one that goes along with it, expires, in seconds since 1970; `None`: that is not known.
    pub(crate) ends: Option<i64>,
    /// Why its key is not private.
    pub(crate) exposed: Option<String>,
}

impl Keys {
    /// Reads the files that `[http]` names.
    ///
    /// # Errors
    /// Which file is not as it has to be, and why. The same was looked for when weir's file was checked, so one has changed since.
    pub(crate) fn read(settings: &Http) -> Result<Self, String> {
        let (tls, certificate) = settings.tls.as_ref().map(tls).transpose()?.unzip();
        Ok(Self { tls, certificate, tokens: settings.token_file.as_deref().map(tokens).transpose()? })
    }
}

fn tls(files: &TlsIdentity) -> Result<(Arc<ServerConfig>, Certificate), String> {
    let (chain, key) = local::identity(files)?;
    let certificate = Certificate {
        file: files.certificate.clone(),
        ends: validity::ends(&chain),
        exposed: local::exposed(&files.key),
    };
    let of = |problem: rustls::Error| format!("{}: {problem}", files.certificate.display());
    let mut config = ServerConfig::builder_with_provider(Arc::new(suite::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(of)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(of)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificate))
}

fn tokens(file: &Path) -> Result<Tokens, String> {
    local::bearers(file)
        .map(|read| Tokens::new(&read))
        .map_err(|problem| format!("{}: {problem}", file.display()))
}

/// Tokens, as their digests: what weir holds can't be sent.
pub(super) struct Tokens(Vec<(Role, [u8; SHA256_OUTPUT_LEN])>);

impl Tokens {
    pub(super) fn new(tokens: &[Token]) -> Self {
        Self(tokens.iter().map(|token| (token.role, hash(token.text.as_bytes()))).collect())
    }

    /// What a token is good for; `None`: it is none of these. Takes the same time for each token, whatever it shares with a good one.
    pub(super) fn role(&self, said: &[u8]) -> Option<Role> {
        let said = hash(said);
        // The place of the one that is equal, from 1.
        let mut place = 0u32;
        for ((_, known), number) in self.0.iter().zip(1u32..) {
            let is_equal: Choice = known.ct_eq(&said);
            place.conditional_assign(&number, is_equal);
        }
        self.0.get((place as usize).checked_sub(1)?).map(|(role, _)| *role)
    }
}

fn hash(token: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_role_of_its_line_and_others_have_none() {
        let read = weir_config::tokens::parse(b"read aaaaaaaaaaaaaaaa\nwrite bbbbbbbbbbbbbbbb\n").unwrap();
        let tokens = Tokens::new(&read);
        assert_eq!(tokens.role(b"aaaaaaaaaaaaaaaa"), Some(Role::Read));
        assert_eq!(tokens.role(b"bbbbbbbbbbbbbbbb"), Some(Role::Write));
        for wrong in [&b""[..], b"aaaaaaaaaaaaaaa", b"aaaaaaaaaaaaaaaaa", b"AAAAAAAAAAAAAAAA", b"\xff"] {
            assert_eq!(tokens.role(wrong), None);
        }
    }
}
