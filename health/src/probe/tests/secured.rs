//! TLS against the servers of OpenSSL.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

/// A folder with certificates, removed at the end.
struct Certificates(PathBuf);

impl Certificates {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A self-signed one for `NAME.example`, as `openssl req -x509` makes it: with the form of an authority's.
    fn self_signed(&self, name: &str, key: &[&str]) -> Pair {
        let pair =
            Pair { certificate: self.0.join(format!("{name}.pem")), key: self.0.join(format!("{name}.key")) };
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", &format!("/CN={name}"), "-newkey"])
            .args(key);
        command.args(["-addext", &format!("subjectAltName=DNS:{name}.example"), "-keyout"]).arg(&pair.key);
        let made = command.arg("-out").arg(&pair.certificate).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        pair
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

const EC: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
const RSA: &[&str] = &["rsa:2048"];

/// `openssl s_server`, which answers each request with a page.
struct Secured(Child, SocketAddr);

impl Secured {
    fn start(pair: &Pair, more: &[&str]) -> Self {
        let at = closed_port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-www", "-accept", &at.to_string(), "-cert"]);
        command.arg(&pair.certificate).arg("-key").arg(&pair.key).args(more);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Clock::now();
        while std::net::TcpStream::connect(at).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "openssl s_server {more:?} has ended");
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(20));
        }
        Self(child, at)
    }

    #[track_caller]
    fn expect(&self, lines: &str, result: Outcome, detail: &str) {
        expect(&outcome(&format!("type = \"https\"\n{lines}"), self.1), result, detail);
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ca(path: &Path, name: &str) -> String {
    format!("tls_verify = true\ntls_ca = \"{}\"\ntls_server_name = \"{name}\"", path.display())
}

#[test]
fn a_self_signed_certificate_may_be_trusted_by_file_or_by_fingerprint() {
    let certificates = Certificates::new("self");
    let pair = certificates.self_signed("web", EC);
    let other = certificates.self_signed("other", EC);
    let server = Secured::start(&pair, &[]);
    server.expect(&ca(&pair.certificate, "web.example"), Outcome::Success, "status 200");
    let name = "TLS: the server's certificate is for web.example, not for other.example";
    server.expect(&ca(&pair.certificate, "other.example"), Outcome::Tls, name);
    let self_signed = "is one of an authority, as self-signed ones are: name it in `tls_ca`";
    server.expect(&ca(&other.certificate, "web.example"), Outcome::Tls, self_signed);
    let printing = ["x509", "-noout", "-fingerprint", "-sha256", "-in"];
    let printed = Command::new("openssl").args(printing).arg(&pair.certificate).output().unwrap();
    let fingerprint = String::from_utf8(printed.stdout).unwrap();
    let pin = |text: &str| format!("tls_pin = [\"{}\"]", text.trim());
    server.expect(&pin(&fingerprint), Outcome::Success, "status 200");
    let digits = fingerprint.trim().rsplit('=').next().unwrap();
    server.expect(&pin(&digits.replace(':', "").to_lowercase()), Outcome::Success, "status 200");
    let wrong = format!("the server's certificate is another than `tls_pin` says: SHA-256 {digits}");
    server.expect(&pin(&"00".repeat(32)), Outcome::Tls, &wrong);
    // Both hold.
    let both = format!("{}\n{}", pin(&fingerprint), ca(&other.certificate, "web.example"));
    server.expect(&both, Outcome::Tls, self_signed);
}

#[test]
fn a_server_that_wants_a_certificate_gets_the_one_of_the_file() {
    let certificates = Certificates::new("client");
    let pair = certificates.self_signed("web", EC);
    let client = certificates.self_signed("weir", EC);
    let trusted = client.certificate.display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let server =
            Secured::start(&pair, &[version, "-Verify", "1", "-verify_return_error", "-CAfile", &trusted]);
        server.expect("", Outcome::Tls, "client certificate");
        let identity = |pair: &Pair| {
            format!("tls_cert = \"{}\"\ntls_key = \"{}\"", pair.certificate.display(), pair.key.display())
        };
        server.expect(&identity(&client), Outcome::Success, "status 200");
        assert_ne!(
            outcome(&format!("type = \"https\"\n{}", identity(&pair)), server.1).outcome,
            Outcome::Success
        );
    }
    let both = certificates.0.join("both.pem");
    let text = [&client.certificate, &client.key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let server = Secured::start(&pair, &["-Verify", "1", "-verify_return_error", "-CAfile", &trusted]);
    server.expect(&format!("tls_cert = \"{}\"", both.display()), Outcome::Success, "status 200");
    // A file that is gone later is the director's fault.
    std::fs::remove_file(&both).unwrap();
    server.expect(&format!("tls_cert = \"{}\"", both.display()), Outcome::Error, "no such file");
}

#[test]
fn servers_of_another_age_are_told_what_weir_speaks() {
    let certificates = Certificates::new("old");
    let pair = certificates.self_signed("web", RSA);
    let spoken = "weir speaks TLS 1.2 and 1.3, with ephemeral keys (ECDHE)";
    let old = Secured::start(&pair, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    old.expect("", Outcome::Tls, spoken);
    let rsa_cbc = Secured::start(&pair, &["-tls1_2", "-cipher", "AES128-SHA"]);
    rsa_cbc.expect("", Outcome::Tls, "the server refuses the handshake (alert handshake_failure)");
    rsa_cbc.expect("", Outcome::Tls, spoken);
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", true);
    expect(&outcome("type = \"https\"", plain), Outcome::Tls, "what the server sent is not TLS");
}
