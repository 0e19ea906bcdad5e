//! Files of keepalived's as people write them, and what becomes of them.

mod as_there;
mod ends;
mod honest;
mod language;
mod meaning;
mod property;
mod samples;

use std::path::Path;

use weir_config::model::Config;

use super::*;

/// Imports a text.
fn imported(text: &str) -> Result<Made, String> {
    imported_for(text, &[], None)
}

fn imported_for(text: &str, interfaces: &[&str], node: Option<&str>) -> Result<Made, String> {
    let devices: Vec<Device> = interfaces.iter().map(|it| device(it).unwrap()).collect();
    of_source(lexer::read_text(Path::new("keepalived.conf"), text.as_bytes(), node)?, &devices)
}

/// weir's model of what was made.
fn model(made: &Made) -> Config {
    match weir_config::parse("weir.toml", &made.text) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{}\n{}", report.render(false), made.text),
    }
}

/// A virtual server with a real server, and lines in both.
fn with(server: &str, real: &str) -> String {
    format!(
        "virtual_server 192.0.2.1 80 {{\n lb_kind NAT\n{server}\n real_server 10.0.0.11 8080 {{\n{real}\n}}\n protocol TCP\n}}\n"
    )
}

#[track_caller]
fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no `{part}` in:\n{text}");
}

#[track_caller]
fn lacks(text: &str, part: &str) {
    assert!(!text.contains(part), "`{part}` in:\n{text}");
}
