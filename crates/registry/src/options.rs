//! The `[registry]` section of the configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use leadpulse_schema::units::as_span;

use crate::secret::Secret;
use crate::tls::{TlsFault, TlsFiles};

/// A setting of a registry or of a token endpoint that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RegistryOptionsError {
    /// Dotted path of the setting.
    pub field: String,
    /// The fault and the remedy.
    pub problem: String,
}

impl RegistryOptionsError {
    /// The same fault, of a setting inside `section`.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.field = format!("{section}.{}", self.field);
        self
    }
}

impl From<TlsFault> for RegistryOptionsError {
    fn from(fault: TlsFault) -> Self {
        Self {
            field: fault.field.into(),
            problem: fault.problem,
        }
    }
}

/// The `[registry]` section: addresses, credentials and patience.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryOptions {
    /// Base URLs: everything before `schemas/ids/…`. One text, or a list of replicas that are tried
    /// in turn.
    #[serde(
        serialize_with = "serialize_urls",
        deserialize_with = "deserialize_urls"
    )]
    pub url: Vec<String>,
    /// User name for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication; never printed.
    pub password: Option<Secret>,
    /// Bearer token, not together with a user name; never printed.
    pub token: Option<Secret>,
    /// Certificates (PEM) that sign the registry's; the system's roots where absent.
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) that this program shows.
    pub certificate: Option<PathBuf>,
    /// Private key (PEM, not encrypted) of the certificate.
    pub key: Option<PathBuf>,
    /// Registers our own output schemas; otherwise they must be registered already.
    pub register: bool,
    /// Limit of one request, milliseconds.
    #[serde(rename = "timeout", alias = "timeout_ms", with = "as_span::ms")]
    pub timeout_ms: u64,
    /// Rounds through the URLs for one answer while the registry fails.
    pub attempts: u32,
    /// Pause before the second round, milliseconds; doubled before each further one.
    #[serde(rename = "backoff", alias = "backoff_ms", with = "as_span::ms")]
    pub backoff_ms: u64,
    /// Time for which "no such schema" is believed, milliseconds.
    #[serde(rename = "unknown_ttl", alias = "unknown_ttl_ms", with = "as_span::ms")]
    pub unknown_ttl_ms: u64,
    /// Pause after the registry could not be reached, milliseconds.
    #[serde(
        rename = "unavailable_ttl",
        alias = "unavailable_ttl_ms",
        with = "as_span::ms"
    )]
    pub unavailable_ttl_ms: u64,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            url: vec!["http://127.0.0.1:8081".into()],
            username: None,
            password: None,
            token: None,
            ca: None,
            certificate: None,
            key: None,
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

/// One text, or several.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "a URL, or a list of URLs")]
enum UrlSetting {
    One(String),
    Several(Vec<String>),
}

fn serialize_urls<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    // A URL with a password in it is refused later; it must not be printed before.
    let mut shown: Vec<String> = urls.iter().map(|url| without_credentials(url)).collect();
    if shown.len() == 1 {
        UrlSetting::One(shown.remove(0)).serialize(serializer)
    } else {
        shown.serialize(serializer)
    }
}

fn deserialize_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match UrlSetting::deserialize(deserializer)? {
        UrlSetting::One(url) => vec![url],
        UrlSetting::Several(urls) => urls,
    })
}

fn without_credentials(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            let cut = url.set_username("").and_then(|()| url.set_password(None));
            cut.map_or_else(|()| "***".into(), |()| url.to_string())
        }
        _ => text.to_owned(),
    }
}

/// An http or https URL without credentials in it.
///
/// # Errors
/// Another text. A text with credentials is not repeated.
pub(crate) fn plain_url(field: &str, text: &str) -> Result<Url, RegistryOptionsError> {
    let fault = |problem: String| RegistryOptionsError {
        field: field.into(),
        problem,
    };
    let url = Url::parse(text).map_err(|error| {
        // A text that does not parse may contain a password all the same.
        let shown = if text.contains('@') { "***" } else { text };
        fault(format!("\"{shown}\" is no URL: {error}"))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault(format!(
            "{} has a user or password in it; URLs are logged, so write them as username and \
             password = {{ env = \"…\" }} or {{ file = \"…\" }}",
            without_credentials(text)
        )));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(fault(format!(
            "\"{text}\" is not of the form https://host:port/path"
        )));
    }
    Ok(url)
}

impl RegistryOptions {
    /// Lets relative paths start at `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.certificate, &mut self.key]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
    }

    /// Checks the section, without a connection.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), RegistryOptionsError> {
        self.checked().map(drop)
    }

    /// The remedy where the registry denies access.
    pub(crate) fn denial_advice(&self) -> String {
        match (&self.token, &self.username) {
            (Some(_), _) => "see registry.token".into(),
            (None, Some(user)) => {
                format!("see registry.username '{user}', registry.password and the user's rights")
            }
            (None, None) => "set registry.username and password, registry.token, or \
                             registry.certificate and key"
                .into(),
        }
    }

    /// The certificate files.
    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }

    /// Checks the section. Returns the base URLs, each with a slash at its end, at least one.
    pub(crate) fn checked(&self) -> Result<Vec<Url>, RegistryOptionsError> {
        self.check_fields()
            .map_err(|fault| fault.within("registry"))
    }

    fn check_fields(&self) -> Result<Vec<Url>, RegistryOptionsError> {
        let fault = |field: &str, problem: &str| RegistryOptionsError {
            field: field.into(),
            problem: problem.into(),
        };
        let mut bases = Vec::with_capacity(self.url.len());
        for text in &self.url {
            let mut url = plain_url("url", text)?;
            // Paths are appended: the base must end in one slash.
            let path = format!("{}/", url.path().trim_end_matches('/'));
            url.set_path(&path);
            bases.push(url);
        }
        if bases.is_empty() {
            return Err(fault("url", "is empty; name at least one address"));
        }
        if self.token.is_some() && self.username.is_some() {
            return Err(fault("token", "cannot be combined with username"));
        }
        if self.password.is_some() && self.username.is_none() {
            return Err(fault(
                "username",
                "is missing: a password belongs to a user",
            ));
        }
        if self.timeout_ms == 0 || self.attempts == 0 {
            return Err(fault("timeout", "timeout and attempts must be above 0"));
        }
        let has_files = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        if has_files {
            if bases.iter().any(|url| url.scheme() != "https") {
                return Err(fault(
                    "url",
                    "certificates are used with https only; write https://…",
                ));
            }
            self.tls().client_config()?;
        }
        Ok(bases)
    }
}
