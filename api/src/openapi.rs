//! The API as an OpenAPI document, made of the types of this crate.
//!
//! [`OPERATIONS`] lists what can be asked. A test of weir's compares it with what is answered, another one `docs/openapi.json` with the
//! document, and a third one checks what a running weir answers against it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{
    announce, connections, director, edits, events, explain, health, neighbors, overview, virtual_servers,
    vrrp, workers,
};

/// Where schemas are in the document.
const SCHEMAS: &str = "/components/schemas";

/// A type's schema.
type Of = fn(&mut SchemaGenerator) -> Schema;

/// What can be asked.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `get`, `post` or `delete`.
    pub method: &'static str,
    /// Where.
    pub path: &'static str,
    summary: &'static str,
    query: &'static [Parameter],
    says: Says,
    /// Who may ask the TCP listener, where it asks for tokens.
    is_open: bool,
}

/// A key of a query.
#[derive(Debug, Clone, Copy)]
struct Parameter {
    name: &'static str,
    means: &'static str,
    is: fn() -> Value,
}

/// How it answers.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// A sentence, or the metrics.
    Text,
    /// Any JSON.
    Json,
    /// One value.
    One(Of),
    /// One value, which control makes, or why not.
    Asked(Of),
    /// One value, or a line for each of another type.
    OneOrLines(Of, Of),
    /// It takes a request and does it, or says why not.
    Does(Of, Of),
    /// Frames, as long as they are captured, or why not.
    Frames,
    /// A sentence, also where there was nothing to do.
    Ends,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn get(path: &'static str, summary: &'static str, says: Says) -> Operation {
    Operation { method: "get", path, summary, query: &[], says, is_open: false }
}

const fn post(path: &'static str, summary: &'static str, takes: Of, answers: Of) -> Operation {
    Operation { method: "post", path, summary, query: &[], says: Says::Does(takes, answers), is_open: false }
}

impl Operation {
    const fn with(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    const fn for_anybody(self) -> Self {
        Self { is_open: true, ..self }
    }
}

/// How often a key of a capture may be there.
fn some(of: Value) -> Value {
    json!({"type": "array", "items": of, "maxItems": 16})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn end() -> Value {
    json!({"type": "string", "examples": ["192.0.2.1", "192.0.2.1:80"]})
}

/// Everything that weir answers but its status page.
pub const OPERATIONS: &[Operation] = &[
    get("/metrics", "Metrics in the text format of Prometheus, or in OpenMetrics.", Says::Text)
        .with(&[Parameter {
            name: "leave_out",
            means: "Without the series of each real server, or of each virtual server and its real servers.",
            is: || json!({"enum": ["real_servers", "virtual_servers"]}),
        }])
        .for_anybody(),
    get("/live", "Whether weir goes on.", Says::Text).for_anybody(),
    get("/ready", "Whether weir can do its work, and what is missing.", Says::Text).for_anybody(),
    get("/api/v1/openapi.json", "This document.", Says::Json),
    get("/api/v1/status", "The director as a whole.", Says::One(of::<director::Status<'static>>)),
    get(
        "/api/v1/virtual_servers",
        "Virtual and real servers.",
        Says::One(of::<virtual_servers::Listing<'static>>),
    )
    .with(&[
        Parameter { name: "name", means: "The virtual server of this name alone.", is: text },
        Parameter {
            name: "templates",
            means: "Counts the clients that persistence ties to each real server.",
            is: || json!({"const": "count"}),
        },
    ]),
    get(
        "/api/v1/overview",
        "What the status page shows: the director of one moment, and a part of its virtual servers.",
        Says::One(of::<overview::Overview<'static>>),
    )
    .with(OVERVIEW),
    get(
        "/api/v1/events",
        "What happened of late, as the log has it.",
        Says::One(of::<events::Listing>),
    )
    .with(&[Parameter {
        name: "after",
        means: "Only those of a higher number.",
        is: || json!({"type": "integer", "minimum": 0, "default": 0}),
    }]),
    get("/api/v1/workers", "What each worker has done.", Says::One(of::<workers::Listing>)),
    get("/api/v1/ports", "Ports.", Says::One(of::<director::Ports<'static>>)),
    get("/api/v1/counters", "What all workers have counted.", Says::One(of::<director::Counters>)),
    get(
        "/api/v1/connections",
        "What the connection tables hold.",
        Says::OneOrLines(of::<connections::Listing<'static>>, of::<connections::Connection<'static>>),
    )
    .with(&[
        Parameter { name: "virtual_server", means: "Of the virtual server of this name.", is: text },
        Parameter {
            name: "protocol",
            means: "Of this protocol.",
            is: || json!({"enum": ["tcp", "udp", "sctp"]}),
        },
        Parameter { name: "client", means: "Of this client: an address, with its port or without.", is: end },
        Parameter { name: "address", means: "To this address of a virtual server.", is: end },
        Parameter { name: "real_server", means: "At this real server.", is: end },
        Parameter {
            name: "state",
            means: "In this state; with a protocol, one of its own.",
            is: || json!({"enum": connections::STATES}),
        },
        Parameter {
            name: "limit",
            means: "So many at most.",
            is: || json!({"type": "integer", "minimum": 1, "maximum": 100_000, "default": 1_000}),
        },
        Parameter {
            name: "templates",
            means: "What persistence remembers of clients as well.",
            is: || json!({"const": "yes"}),
        },
        Parameter {
            name: "stream",
            means: "A line for each, however many there are.",
            is: || json!({"const": "yes"}),
        },
    ]),
    get(
        "/api/v1/neighbors",
        "Next hops and their MACs, as each worker knows them.",
        Says::One(of::<neighbors::Listing<'static>>),
    ),
    get(
        "/api/v1/explain",
        "What would become of a packet, and why.",
        Says::One(of::<explain::Explanation<'static>>),
    )
    .with(&[
        Parameter {
            name: "protocol",
            means: "Of the packet.",
            is: || json!({"enum": ["tcp", "udp", "sctp"]}),
        },
        Parameter { name: "source", means: "From whom: an address with its port.", is: end },
        Parameter { name: "destination", means: "To whom: an address with its port.", is: end },
        Parameter {
            name: "segment",
            means: "What TCP's flags say, or the chunk of SCTP that corresponds; else as the connection goes on, or a first one.",
            is: || json!({"enum": ["syn", "syn-ack", "ack", "fin", "rst"]}),
        },
        Parameter {
            name: "length",
            means: "Bytes of the IP packet.",
            is: || json!({"type": "integer", "minimum": 20, "maximum": 65_535}),
        },
        Parameter { name: "port", means: "The port that it comes in on.", is: text },
        Parameter {
            name: "worker",
            means: "The worker that gets it; else each that may.",
            is: || json!({"type": "integer", "minimum": 0}),
        },
    ]),
    get(
        "/api/v1/health",
        "Real servers, whether they are up and why.",
        Says::One(of::<health::Listing<'static>>),
    )
    .with(&[Parameter {
        name: "virtual_server",
        means: "Of the virtual server of this name.",
        is: text,
    }]),
    get("/api/v1/vrrp", "The instances of VRRP.", Says::One(of::<vrrp::Listing<'static>>)),
    get(
        "/api/v1/announce",
        "Routes that a routing daemon may pass on.",
        Says::One(of::<announce::Listing<'static>>),
    ),
    get("/api/v1/timeouts", "How long connections stay.", Says::One(of::<edits::Timeouts>)),
    get("/api/v1/desired", "What is in force as the tables of the file.", Says::Asked(of::<edits::Desired>)),
    post("/api/v1/edits", "Makes edits, all or none.", of::<edits::Request>, of::<edits::Applied>),
    post("/api/v1/reload", "Has weir read its file again.", of::<edits::Reload>, of::<edits::Reloaded>),
    Operation {
        method: "post",
        path: "/api/v1/capture",
        summary: "Captures frames, until a limit is reached.",
        query: CAPTURE,
        says: Says::Frames,
        is_open: false,
    },
    Operation {
        method: "delete",
        path: "/api/v1/capture",
        summary: "Ends the capture that is on.",
        query: &[],
        says: Says::Ends,
        is_open: false,
    },
];

/// Which virtual servers an overview may be asked for.
const OVERVIEW: &[Parameter] = &[
    Parameter {
        name: "search",
        means: "Virtual servers with this in their name, their address or a real server's, whatever its case.",
        is: text,
    },
    Parameter {
        name: "state",
        means: "Those alone of which something is down.",
        is: || json!({"const": "down"}),
    },
    Parameter {
        name: "sort",
        means: "By what; what is counted, by how much there is of it in a second.",
        is: || json!({"enum": overview::SORTS, "default": "number"}),
    },
    Parameter { name: "descending", means: "The largest first.", is: || json!({"const": "yes"}) },
    Parameter {
        name: "first",
        means: "Leaves out so many.",
        is: || json!({"type": "integer", "minimum": 0, "default": 0}),
    },
    Parameter {
        name: "limit",
        means: "So many at most.",
        is: || json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
    },
    Parameter {
        name: "open",
        means: "With the real servers of the virtual server of this name.",
        is: || json!({"type": "array", "items": text(), "maxItems": 200}),
    },
    Parameter { name: "unfold", means: "With those of each.", is: || json!({"const": "yes"}) },
];

/// What a capture may be asked for.
const CAPTURE: &[Parameter] = &[
    Parameter { name: "in", means: "Frames as they come in.", is: || json!({"const": "yes"}) },
    Parameter { name: "out", means: "Frames as they go out.", is: || json!({"const": "yes"}) },
    Parameter { name: "drop", means: "Frames dropped for this reason, or for any.", is: || some(text()) },
    Parameter { name: "port", means: "At the port of this name.", is: text },
    Parameter { name: "protocol", means: "A name, or a number of IP.", is: || some(text()) },
    Parameter { name: "address", means: "From or to this address or network.", is: || some(text()) },
    Parameter {
        name: "l4_port",
        means: "From or to this port of TCP, UDP or SCTP.",
        is: || some(json!({"type": "integer", "minimum": 1, "maximum": 65_535})),
    },
    Parameter {
        name: "snaplen",
        means: "Bytes of each frame.",
        is: || json!({"type": "integer", "minimum": 14, "maximum": 16_384, "default": 256}),
    },
    Parameter {
        name: "count",
        means: "Ends after so many frames.",
        is: || json!({"type": "integer", "minimum": 1}),
    },
    Parameter {
        name: "bytes",
        means: "Ends when the file has so many.",
        is: || json!({"type": "integer", "minimum": 65_536, "default": 104_857_600}),
    },
    Parameter {
        name: "seconds",
        means: "Ends after so many.",
        is: || json!({"type": "integer", "minimum": 1, "maximum": 3_600, "default": 60}),
    },
];

/// The document.
pub fn document() -> Value {
    let settings = || SchemaSettings::draft2020_12().with(|it| it.definitions_path = SCHEMAS.into());
    // What a client may leave out is not what weir may.
    let (mut taken, mut said) =
        (settings().for_deserialize().into_generator(), settings().for_serialize().into_generator());
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = described(operation, &mut taken, &mut said);
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    let refused = said.subschema_for::<edits::Refused>();
    let mut schemas = taken.take_definitions(true);
    schemas.extend(said.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "weir",
            "summary": "What a weir answers and does.",
            "description": "Fields are added and never renamed: a client leaves alone what it does not know. docs/api.md explains it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "http://127.0.0.1:9292", "description": "[http] listen; the control socket answers the same."}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where `token_file` of [http] is set."},
            },
            "responses": {
                "Sentence": {"description": "Why not, in a sentence.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                "NoToken": {
                    "description": "A token is needed, or it is a wrong one.",
                    "headers": {"WWW-Authenticate": {"schema": {"type": "string"}, "required": true}},
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "Refused": {
                    "description": "It is not done, and nothing has changed.",
                    "content": {"application/json": {"schema": refused}},
                },
            },
        },
    })
}

fn described(operation: &Operation, taken: &mut SchemaGenerator, said: &mut SchemaGenerator) -> Value {
    let sentence = || json!({"$ref": "#/components/responses/Sentence"});
    let refused = || json!({"$ref": "#/components/responses/Refused"});
    let mut described = json!({"summary": operation.summary});
    let mut answers = Map::new();
    let mut answer = |status: &str, answer: Value| answers.insert(status.to_owned(), answer);
    answer("200", json!({"description": operation.summary, "content": content(operation.says, said)}));
    // A bad Host, or a bad query.
    answer("400", sentence());
    answer("503", sentence());
    if operation.is_open {
        described["security"] = json!([]);
    } else {
        answer("401", json!({"$ref": "#/components/responses/NoToken"}));
        answer("403", sentence());
        answer("421", sentence());
    }
    match operation.says {
        Says::Does(takes, _) => {
            described["requestBody"] = json!({"content": {"application/json": {"schema": takes(taken)}}});
            for status in ["400", "413", "422", "503"] {
                answer(status, refused());
            }
        }
        Says::Asked(_) => drop(answer("503", refused())),
        Says::Frames | Says::Ends => drop(answer("409", sentence())),
        _ => drop(answer("500", sentence())),
    }
    described["responses"] = answers.into();
    if !operation.query.is_empty() {
        let parameters = operation
            .query
            .iter()
            .map(|it| json!({"name": it.name, "in": "query", "description": it.means, "schema": (it.is)()}));
        described["parameters"] = parameters.collect();
    }
    described
}

fn content(says: Says, said: &mut SchemaGenerator) -> Value {
    match says {
        Says::Frames => json!({"application/x-pcapng": {}}),
        Says::Text | Says::Ends => json!({"text/plain": {"schema": {"type": "string"}}}),
        Says::Json => json!({"application/json": {"schema": {"type": "object"}}}),
        Says::One(answer) | Says::Asked(answer) | Says::Does(_, answer) => {
            json!({"application/json": {"schema": answer(said)}})
        }
        Says::OneOrLines(page, line) => json!({
            "application/json": {"schema": page(said)},
            "application/x-ndjson": {"schema": line(said)},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_docs_is_that_of_the_types() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, made, "WEIR_BLESS=1 cargo test -p weir-api writes docs/openapi.json anew");
    }

    #[test]
    fn no_two_types_have_one_name() {
        let document = document();
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(
                !name.ends_with(|c: char| c.is_ascii_digit()),
                "{name}: give it a name with #[schemars(rename)]"
            );
        }
    }
}
