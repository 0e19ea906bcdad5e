//! `[http]`: where weir listens, who may ask there, and how they are known.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use toml::Spanned;

use super::health::{file as path, files_of};
use super::table::Table;
use super::values;
use crate::model::Http;
use crate::model::health::TlsIdentity;
use crate::report::{Need, Problem};
use crate::schema::{File, Http as Written, Tabular};

/// Reads the table.
pub(super) fn http(file: &File, root: &mut Table<'_>) -> Http {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9292));
    let mut http = Http { listen, hosts: Vec::new(), tls: None, token_file: None };
    let Some((Tabular(written), at)) = root.value(&file.http) else { return http };
    let mut table = root.inner(at);
    let listen = table.parsed_or_number(&written.listen, values::listen);
    let hosts = table.list(&written.hosts, values::host_name);
    http.hosts = hosts.into_iter().map(Spanned::into_inner).collect();
    http.tls = identity(written, &mut table);
    http.token_file = token_file(written, &mut table);
    if let Some(listen) = listen {
        http.listen = *listen.get_ref();
        warn_of_what_is_closed(written, &listen, &mut table);
    }
    http
}

/// Both may be in one file.
fn identity(written: &Written, table: &mut Table<'_>) -> Option<TlsIdentity> {
    let certificate = table.parsed(&written.tls_certificate, path);
    let key = table.parsed(&written.tls_key, path);
    let Some(certificate) = certificate else {
        if let (Some(key), true) = (key, written.tls_certificate.is_none()) {
            let problem = Problem::error("`tls_key` without `tls_certificate`")
                .at(key.span(), "a key alone says nothing")
                .help("write `tls_certificate`, a file with the certificate in PEM");
            table.report(problem);
        }
        return None;
    };
    let help = "`tls_certificate` holds the certificate and `tls_key` its private key, both in PEM";
    Some(files_of(certificate, key, help, table))
}

fn token_file(written: &Written, table: &mut Table<'_>) -> Option<PathBuf> {
    let file = table.parsed(&written.token_file, path)?;
    if written.tls_certificate.is_none() {
        let problem = Problem::error("`token_file` without `tls_certificate`")
            .at(file.span(), "a token that goes over the wire as it is, is soon everybody's")
            .help("write `tls_certificate` and `tls_key`, or remove `token_file`");
        table.report(problem);
    }
    let help = "a line of it is `read TOKEN` or `write TOKEN`; write `openssl rand -hex 32` for a token";
    table.report(Need::Tokens(file.get_ref().clone()).at(file.span()).help(help));
    Some(file.into_inner())
}

/// Whoever reads the file may expect the status page and the API, as there are on loopback.
fn warn_of_what_is_closed(written: &Written, listen: &Spanned<SocketAddr>, table: &mut Table<'_>) {
    let (has_tls, has_tokens) = (written.tls_certificate.is_some(), written.token_file.is_some());
    if listen.get_ref().ip().to_canonical().is_loopback() || has_tls && has_tokens {
        return;
    }
    let label = match listen.get_ref().ip().is_unspecified() {
        true => "every address of this machine: anybody may ask".to_owned(),
        false => format!("whoever reaches {} may ask", listen.get_ref().ip()),
    };
    let missing = match has_tls {
        true => "`token_file`",
        false => "`tls_certificate`, `tls_key` and `token_file`",
    };
    let problem = Problem::warning("only /metrics, /live and /ready are answered at this address")
        .at(listen.span(), label)
        .help(format!("write {missing} for the status page and the API, or listen on 127.0.0.1"));
    table.report(problem);
}
