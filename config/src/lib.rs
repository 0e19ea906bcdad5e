//! weir's configuration file.
//!
//! `schema` is the file as written, `validate` turns it into [`model`], which cannot hold a bad value,
//! and [`report`] shows every problem at its place in the text.
//!
//! ```
//! let loaded = weir_config::parse("weir.toml", r#"
//!     [[port]]
//!     name = "lan"
//!     device = "0000:03:00.0"
//!     addresses = ["10.0.0.2/24"]
//! "#)?;
//! assert_eq!(loaded.config.ports[0].mtu, 1500);
//!
//! let report = weir_config::parse("weir.toml", "[http]\nlissten = 1").unwrap_err();
//! assert_eq!(report.errors(), 2); // the unknown key, and no port
//! # Ok::<(), weir_config::report::Report>(())
//! ```

pub mod edit;
mod file;
mod headers;
mod keepalived;
mod keys;
pub mod lasting;
pub mod model;
mod parse;
pub mod report;
mod schema;
mod secret;
mod slices;
mod source;
mod suggest;
mod syntax;
pub mod tokens;
mod validate;

pub use file::read_file;
pub use keys::keys_of;
pub use parse::{FILE_BYTES_MAX, Loaded, load, load_any, parse};
pub use source::Source;
pub use suggest::nearest;
pub use validate::Way;
