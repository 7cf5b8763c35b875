//! Writer schemas from a folder or over HTTP.
//!
//! [`FolderStore`] derives ids from the schemas of a folder. [`HttpRegistry`] asks a registry that
//! speaks Confluent's API. Both implement [`WriterSchemas`]. As the home of HTTP over TLS the crate
//! also fetches access tokens ([`TokenOptions`]) and says why a server is not trusted
//! ([`why_untrusted`]).
//!
//! Invariants: a schema never changes under its id, so a known one is answered from memory for
//! ever; only the registry's own "no such schema" makes a schema unknown, and everything else means
//! that the record waits; secrets are never printed.

mod answers;
mod client;
mod folder;
mod http;
mod lookup;
mod metrics;
mod options;
mod secret;
mod subject;
mod tls;
mod token;

pub use client::causes;
pub use folder::FolderStore;
pub use http::HttpRegistry;
pub use lookup::{LookupError, WriterSchemas};
pub use metrics::{REGISTRY_METRICS, RegistryMetrics};
pub use options::{RegistryOptions, RegistryOptionsError};
pub use secret::Secret;
pub use subject::SubjectVersion;
pub use tls::{TlsFault, TlsFiles, certificates, is_encrypted_key, why_untrusted};
pub use token::{AccessToken, TokenError, TokenOptions};
