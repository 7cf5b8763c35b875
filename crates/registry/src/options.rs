//! The `[registry]` section of the configuration.

use std::fmt;

use reqwest::Url;
use serde::{Deserialize, Serialize, Serializer};

/// A setting of the registry that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kafka.{field}: {problem}")]
pub struct RegistryOptionsError {
    /// Dotted path of the setting.
    pub field: String,
    /// The fault and the remedy.
    pub problem: String,
}

/// The `[registry]` section: address, credentials and patience.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryOptions {
    /// Base URL: everything before `schemas/ids/…`.
    pub url: String,
    /// User name for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication; never printed.
    #[serde(serialize_with = "serialize_redacted")]
    pub password: Option<String>,
    /// Bearer token, not together with a user name; never printed.
    #[serde(serialize_with = "serialize_redacted")]
    pub token: Option<String>,
    /// Registers our own output schemas; otherwise they must be registered already.
    pub register: bool,
    /// Limit of one request, milliseconds.
    pub timeout_ms: u64,
    /// Requests for one answer while the registry fails.
    pub attempts: u32,
    /// Pause before the second request, milliseconds; doubled before each further one.
    pub backoff_ms: u64,
    /// Time for which "no such schema" is believed, milliseconds.
    pub unknown_ttl_ms: u64,
    /// Pause after the registry could not be reached, milliseconds.
    pub unavailable_ttl_ms: u64,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".into(),
            username: None,
            password: None,
            token: None,
            register: true,
            timeout_ms: 5_000,
            attempts: 3,
            backoff_ms: 100,
            unknown_ttl_ms: 10_000,
            unavailable_ttl_ms: 1_000,
        }
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        write!(f, "RegistryOptions {text}")
    }
}

fn serialize_redacted<S: Serializer>(
    secret: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}

impl RegistryOptions {
    /// Checks the section. Returns the base URL, with a slash at its end.
    pub(crate) fn checked(&self) -> Result<Url, RegistryOptionsError> {
        let fault = |field: &str, problem: String| RegistryOptionsError {
            field: format!("registry.{field}"),
            problem,
        };
        let mut url = Url::parse(&self.url)
            .map_err(|error| fault("url", format!("\"{}\" is no URL: {error}", self.url)))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(fault(
                "url",
                format!(
                    "\"{}\" is not of the form http://host:port/path (this build has no TLS: put a proxy in between)",
                    self.url
                ),
            ));
        }
        if self.token.is_some() && self.username.is_some() {
            return Err(fault("token", "cannot be combined with username".into()));
        }
        if self.timeout_ms == 0 || self.attempts == 0 {
            return Err(fault(
                "timeout_ms",
                "timeout_ms and attempts must be at least 1".into(),
            ));
        }
        // Paths are appended: the base must end in one slash.
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}
