//! Options of `http` and `https`.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;

use super::texts;
use crate::model::health::{BodyDigest, HttpMethod, HttpProbe, Page, TextMatch, TlsIdentity, TlsOptions};
use crate::report::{Need, Problem};
use crate::schema::{Field, HealthCheck, List, Ports, Span, Tabular, Text, Url};
use crate::validate::fault::Fault;
use crate::validate::table::{Table, peek, word};

/// Bytes of a body that are looked at unless the file says how many.
const BODY_LIMIT_DEFAULT: u32 = 65_536;
const BODY_LIMIT_MAX: i64 = 16 << 20;
/// Requests of one check at most.
const PAGES_MAX: usize = 16;

pub(super) fn http(written: &HealthCheck, table: &mut Table<'_>) -> HttpProbe {
    let methods = [
        ("GET", HttpMethod::Get),
        ("HEAD", HttpMethod::Head),
        ("OPTIONS", HttpMethod::Options),
        ("POST", HttpMethod::Post),
    ];
    let synonyms = [("get", "GET"), ("head", "HEAD"), ("options", "OPTIONS"), ("post", "POST")];
    let method = table.parsed(&written.method, |text| word("method", &methods, &synonyms, text));
    let method = table.or(method, HttpMethod::Get);
    let host = table.parsed(&written.host, texts::host).map(Spanned::into_inner);
    let body = table.parsed(&written.request_body, texts::sent);
    if let (Some(body), false) = (&body, *method.get_ref() == HttpMethod::Post) {
        let problem = Problem::error("`request_body` without POST")
            .at(body.span(), "only a POST sends a body")
            .help("write `method = \"POST\"`");
        table.report(problem);
    }
    let mut headers = headers(&written.expect_header, texts::header, TextMatch::Contains, table);
    headers.extend(self::headers(&written.expect_header_regex, texts::header_regex, TextMatch::Regex, table));
    let fields = fields(written, table);
    let limit = table.integer(&written.body_limit, "body_limit", 1..=BODY_LIMIT_MAX, BODY_LIMIT_DEFAULT);
    let mut expected = None;
    let pages = pages(written, &headers, &mut expected, table);
    if let (HttpMethod::Head, Some(span)) = (*method.get_ref(), expected) {
        let label = "the answer to HEAD has no body";
        table.report(Problem::error("a body is expected").at(span, label).help("write `method = \"GET\"`"));
    }
    HttpProbe {
        method: method.into_inner(),
        host,
        fields,
        body: body.map(Spanned::into_inner).unwrap_or_default(),
        pages,
        body_limit: limit.into_inner(),
    }
}

/// What is asked for: the check's own path, or those of its `url` tables, for which the check's other keys are defaults.
/// `expected` is where the first body is expected.
fn pages(
    written: &HealthCheck,
    headers: &[(String, TextMatch)],
    expected: &mut Option<Span>,
    table: &mut Table<'_>,
) -> Vec<Page> {
    let path = table.parsed(&written.path, texts::url_path);
    let own = Wanted {
        status: &written.status,
        body: &written.expect_body,
        body_regex: &written.expect_body_regex,
        sha256: &written.expect_sha256,
        md5: &written.expect_md5,
    };
    let default = own.page(expected, table);
    let with = |path: String, page: Page| Page { path, headers: headers.to_vec(), ..page };
    let form = |_: &str| "write each page as a table, in brackets: url = [{ path = \"/health\" }]".to_owned();
    let list = written.url.as_ref().and_then(|url| table.in_tables(url, form));
    let Some((list, at)) = list else {
        let path = path.map_or_else(|| "/".to_owned(), Spanned::into_inner);
        return vec![with(path, default.or_default())];
    };
    if let Some(path) = path {
        let problem = Problem::error("both `path` and `url`")
            .at(path.span(), "each `url` has a path of its own")
            .related(at.clone(), "these")
            .help("make it one more `url`");
        table.report(problem);
    }
    if list.0.is_empty() || list.0.len() > PAGES_MAX {
        let label = format!("1 to {PAGES_MAX} are needed");
        table.report(Problem::error("too few or too many `url` tables").at(at, label));
    }
    let mut pages = Vec::with_capacity(list.0.len());
    for element in list.0.iter().take(PAGES_MAX) {
        let Some((Tabular(url), at)) = table.in_tables(element, form) else { continue };
        let table = &mut table.inner(at);
        let path = table.required_parsed(&url.path, "path", "path = \"/health\"", texts::url_path);
        let Url { path: _, status, expect_body, expect_body_regex, expect_sha256, expect_md5 } = url;
        let wanted = Wanted {
            status,
            body: expect_body,
            body_regex: expect_body_regex,
            sha256: expect_sha256,
            md5: expect_md5,
        };
        let page = wanted.page(expected, table).or(&default).or_default();
        pages.extend(path.map(|path| with(path.into_inner(), page)));
    }
    pages
}

/// What an answer must be like, as written.
struct Wanted<'f> {
    status: &'f Field<List<Ports>>,
    body: &'f Field<Text>,
    body_regex: &'f Field<Text>,
    sha256: &'f Field<Text>,
    md5: &'f Field<Text>,
}

/// The same as read; empty: not written.
#[derive(Clone)]
struct Expected {
    status: Vec<(u16, u16)>,
    body: Vec<TextMatch>,
    digests: Vec<BodyDigest>,
}

impl Wanted<'_> {
    fn page(&self, expected: &mut Option<Span>, table: &mut Table<'_>) -> Expected {
        let status = table.list(self.status, texts::status).into_iter().map(Spanned::into_inner).collect();
        let text = table.parsed(self.body, |text| match text.is_empty() {
            true => Err(Fault::new("not a text to expect", "it is empty").help("remove the line")),
            false => Ok(TextMatch::Contains(text.to_owned())),
        });
        let pattern = table.parsed(self.body_regex, |text| texts::regex(text).map(TextMatch::Regex));
        let body = [text, pattern];
        let digests = [table.parsed(self.sha256, texts::sha256), table.parsed(self.md5, texts::md5)];
        let spans = body.iter().flatten().map(Spanned::span);
        let first = spans.chain(digests.iter().flatten().map(Spanned::span)).next();
        *expected = expected.take().or(first);
        Expected {
            status,
            body: body.into_iter().flatten().map(Spanned::into_inner).collect(),
            digests: digests.into_iter().flatten().map(Spanned::into_inner).collect(),
        }
    }
}

impl Expected {
    /// What is not written here is as there. What is expected of the body is one thing.
    fn or(self, default: &Self) -> Self {
        let says_body = !self.body.is_empty() || !self.digests.is_empty();
        let of_body = if says_body { self.clone() } else { default.clone() };
        let status = if self.status.is_empty() { default.status.clone() } else { self.status };
        Self { status, ..of_body }
    }

    fn or_default(self) -> Page {
        let status = if self.status.is_empty() { vec![(200, 299)] } else { self.status };
        Page { path: String::new(), status, headers: Vec::new(), body: self.body, body_digests: self.digests }
    }
}

/// Header fields of the request.
fn fields(written: &HealthCheck, table: &mut Table<'_>) -> Vec<(String, String)> {
    let read = table.list(&written.request_header, texts::request_header);
    let mut fields: Vec<(String, String)> = read.into_iter().map(Spanned::into_inner).collect();
    if let Some(credentials) = table.parsed(&written.basic_auth, texts::credentials) {
        if fields.iter().any(|(name, _)| name == "authorization") {
            let problem = Problem::error("both `basic_auth` and a header `Authorization`")
                .at(credentials.span(), "only one of them can hold")
                .help("remove one of them");
            table.report(problem);
        }
        let value = format!("Basic {}", STANDARD.encode(credentials.into_inner()));
        fields.push(("authorization".to_owned(), value));
    }
    fields
}

fn headers(
    field: &Field<List<Text>>,
    parse: fn(&str) -> Result<(String, String), Fault>,
    matching: fn(String) -> TextMatch,
    table: &mut Table<'_>,
) -> Vec<(String, TextMatch)> {
    let read = table.list(field, parse).into_iter().map(Spanned::into_inner);
    read.map(|(name, value)| (name, matching(value))).collect()
}

pub(super) fn tls(written: &HealthCheck, table: &mut Table<'_>) -> TlsOptions {
    let ca = table.parsed(&written.tls_ca, texts::file);
    let verify = table.boolean(&written.tls_verify, ca.is_some());
    if let (Some(ca), false) = (&ca, verify.get_ref()) {
        let problem = Problem::error("`tls_ca` without `tls_verify`")
            .at(ca.span(), "certificates are not verified")
            .help("write `tls_verify = true`");
        table.report(problem);
    }
    if let Some(ca) = &ca {
        let need = Need::Certificates(ca.get_ref().clone());
        table.report(need.at(ca.span()).help("`tls_ca` is a file of certificates in PEM"));
    } else if *verify.get_ref() {
        table.report(
            Need::SystemAuthorities.at(verify.span()).help("name a file of certificates in `tls_ca`"),
        );
    }
    let server_name = table.parsed(&written.tls_server_name, texts::dns_name);
    let pins = table.list(&written.tls_pin, texts::fingerprint);
    if let Some((_, at)) = peek(&written.tls_pin).filter(|(list, _)| list.0.is_empty()) {
        table.report(Problem::error("`tls_pin` holds no fingerprint").at(at, "no server could show that"));
    }
    let identity = identity(written, table);
    TlsOptions {
        verify: verify.into_inner(),
        ca: ca.map(Spanned::into_inner),
        pins: pins.into_iter().map(Spanned::into_inner).collect(),
        identity,
        server_name: server_name.map(Spanned::into_inner),
    }
}

/// A certificate and its key; both may be in one file.
fn identity(written: &HealthCheck, table: &mut Table<'_>) -> Option<TlsIdentity> {
    let certificate = table.parsed(&written.tls_cert, texts::file);
    let key = table.parsed(&written.tls_key, texts::file);
    match (certificate, key) {
        (Some(certificate), key) => {
            let help = "`tls_cert` holds the certificate and `tls_key` its private key, both in PEM";
            Some(files_of(certificate, key, help, table))
        }
        (None, Some(key)) => {
            let problem = Problem::error("`tls_key` without `tls_cert`")
                .at(key.span(), "a key alone says nothing")
                .help("write `tls_cert`, a file with the certificate in PEM");
            table.report(problem);
            None
        }
        (None, None) => None,
    }
}

/// What has to be in the files of a certificate and its key, each at its own place; without a key of its own it is in the same file.
pub(in crate::validate) fn files_of(
    certificate: Spanned<PathBuf>,
    key: Option<Spanned<PathBuf>>,
    help: &str,
    table: &mut Table<'_>,
) -> TlsIdentity {
    let (at, certificate) = (certificate.span(), certificate.into_inner());
    let (key_at, key) =
        key.map_or_else(|| (at.clone(), certificate.clone()), |key| (key.span(), key.into_inner()));
    table.report(Need::Certificates(certificate.clone()).at(at).help(help));
    let identity = TlsIdentity { certificate, key };
    table.report(Need::Key(identity.clone()).at(key_at).help(help));
    identity
}
