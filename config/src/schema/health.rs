//! Health checks as written.

use serde::Deserialize;

use super::{Boolean, Field, Integer, List, Number, Ports, Tables, Text};

/// `[health]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) script_user: Field<Text>,
    pub(crate) script_group: Field<Text>,
    pub(crate) concurrent_max: Field<Integer>,
}

/// `[virtual_server.health_check]` or `[virtual_server.real_server.health_check]`, or several of them. The options of
/// all types side by side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    pub(crate) r#type: Field<Text>,
    pub(crate) interval: Field<Number>,
    pub(crate) timeout: Field<Number>,
    pub(crate) fall: Field<Integer>,
    pub(crate) rise: Field<Integer>,
    pub(crate) retry_interval: Field<Number>,
    pub(crate) jitter: Field<Number>,
    pub(crate) warmup: Field<Number>,
    pub(crate) connect_timeout: Field<Number>,
    pub(crate) tls_timeout: Field<Number>,
    pub(crate) response_timeout: Field<Number>,
    pub(crate) via: Field<Text>,
    pub(crate) address: Field<Text>,
    pub(crate) port: Field<Integer>,
    pub(crate) source: Field<Text>,
    pub(crate) method: Field<Text>,
    pub(crate) request_header: Field<List<Text>>,
    pub(crate) request_body: Field<Text>,
    pub(crate) basic_auth: Field<Text>,
    pub(crate) path: Field<Text>,
    pub(crate) host: Field<Text>,
    pub(crate) status: Field<List<Ports>>,
    pub(crate) expect_header: Field<List<Text>>,
    pub(crate) expect_header_regex: Field<List<Text>>,
    pub(crate) expect_body: Field<Text>,
    pub(crate) expect_body_regex: Field<Text>,
    pub(crate) expect_sha256: Field<Text>,
    pub(crate) expect_md5: Field<Text>,
    pub(crate) body_limit: Field<Integer>,
    pub(crate) url: Tables<Url>,
    pub(crate) tls_verify: Field<Boolean>,
    pub(crate) tls_ca: Field<Text>,
    pub(crate) tls_server_name: Field<Text>,
    pub(crate) tls_pin: Field<List<Text>>,
    pub(crate) tls_cert: Field<Text>,
    pub(crate) tls_key: Field<Text>,
    pub(crate) send: Field<Text>,
    pub(crate) send_hex: Field<Text>,
    pub(crate) expect: Field<Text>,
    pub(crate) expect_hex: Field<Text>,
    pub(crate) require_reply: Field<Boolean>,
    pub(crate) query: Field<Text>,
    pub(crate) record: Field<Text>,
    pub(crate) helo: Field<Text>,
    pub(crate) command: Field<List<Text>>,
    pub(crate) dynamic_weight: Field<Boolean>,
}

/// `[[virtual_server.health_check.url]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Url {
    pub(crate) path: Field<Text>,
    pub(crate) status: Field<List<Ports>>,
    pub(crate) expect_body: Field<Text>,
    pub(crate) expect_body_regex: Field<Text>,
    pub(crate) expect_sha256: Field<Text>,
    pub(crate) expect_md5: Field<Text>,
}

/// `[virtual_server.agent]` or `[virtual_server.real_server.agent]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    pub(crate) port: Field<Integer>,
    pub(crate) address: Field<Text>,
    pub(crate) send: Field<Text>,
    pub(crate) interval: Field<Number>,
    pub(crate) timeout: Field<Number>,
}

/// `[virtual_server.passive]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Passive {
    pub(crate) window: Field<Number>,
    pub(crate) connections_min: Field<Integer>,
    pub(crate) failures_percent: Field<Integer>,
    pub(crate) ejection: Field<Number>,
    pub(crate) ejection_max: Field<Number>,
    pub(crate) ejected_percent_max: Field<Integer>,
}
