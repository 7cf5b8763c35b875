//! The `[kafka.security]` section: encryption, and who this program is to the brokers.
//!
//! The section becomes settings of every librdkafka client, whatever its role. Secrets come from
//! the environment or from files: docs/decisions/0027-secrets-by-reference.md.

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use leadpulse_registry::{Secret, TlsFiles, TokenOptions, certificates, is_encrypted_key};

use crate::options::OptionsError;

/// The way to a broker: with or without TLS, with or without a name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS; with `certificate` and `key` in both directions.
    Ssl,
    /// SASL without encryption: passwords of PLAIN can be read on the way.
    SaslPlaintext,
    /// SASL inside TLS.
    SaslSsl,
}

/// The SASL mechanism of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// User and password as they are.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response over SHA-256
    /// ([RFC 5802](https://datatracker.ietf.org/doc/html/rfc5802)).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response over SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A bearer token ([KIP-255](https://cwiki.apache.org/confluence/pages/viewpage.action?pageId=75968876)).
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl SaslMechanism {
    /// The mechanism's registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// The `[kafka.security]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityOptions {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. Where absent: `sasl_ssl` with a
    /// mechanism, `ssl` with a certificate file, else `plaintext`.
    pub protocol: Option<SecurityProtocol>,
    /// Certificates (PEM) that sign the brokers'; the system's roots where absent.
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) that this program shows: mutual TLS.
    pub certificate: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    pub key: Option<PathBuf>,
    /// Password of an encrypted private key; never printed.
    pub key_password: Option<Secret>,
    /// True to refuse a broker whose certificate is made for another name.
    pub verify_hostname: bool,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    #[serde(alias = "mechanism")]
    pub sasl: Option<SaslMechanism>,
    /// User of PLAIN and SCRAM.
    pub username: Option<String>,
    /// Password of PLAIN and SCRAM; never printed.
    pub password: Option<Secret>,
    /// A bearer token that does not end, for OAUTHBEARER; never printed.
    pub token: Option<Secret>,
    /// The token endpoint of OAUTHBEARER.
    pub oauth: Option<TokenOptions>,
}

impl Default for SecurityOptions {
    fn default() -> Self {
        Self {
            protocol: None,
            ca: None,
            certificate: None,
            key: None,
            key_password: None,
            verify_hostname: true,
            sasl: None,
            username: None,
            password: None,
            token: None,
            oauth: None,
        }
    }
}

fn fault<T>(field: &str, problem: impl Into<String>) -> Result<T, OptionsError> {
    Err(OptionsError::Field {
        field: format!("security.{field}"),
        problem: problem.into(),
    })
}

impl SecurityOptions {
    /// True if the section says nothing: then `kafka.client` alone decides.
    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::default()
    }

    /// The protocol in force.
    pub fn protocol(&self) -> SecurityProtocol {
        let has_files = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        self.protocol.unwrap_or(match (self.sasl, has_files) {
            (Some(_), _) => SecurityProtocol::SaslSsl,
            (None, true) => SecurityProtocol::Ssl,
            (None, false) => SecurityProtocol::Plaintext,
        })
    }

    /// True if connections are encrypted.
    pub(crate) fn encrypts(&self) -> bool {
        matches!(
            self.protocol(),
            SecurityProtocol::Ssl | SecurityProtocol::SaslSsl
        )
    }

    fn authenticates(&self) -> bool {
        matches!(
            self.protocol(),
            SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl
        )
    }

    /// Lets relative paths start at `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let oauth_ca = self.oauth.as_mut().map(|oauth| &mut oauth.ca);
        let files = [&mut self.ca, &mut self.certificate, &mut self.key];
        for path in files.into_iter().chain(oauth_ca).flatten() {
            *path = folder.join(&*path);
        }
    }

    /// The certificate files, for this program's own look at a broker's certificate.
    pub(crate) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            ..TlsFiles::default()
        }
    }

    /// Checks the section: what belongs together, and that files are what they should be.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn validate(&self) -> Result<(), OptionsError> {
        self.validate_sasl()?;
        self.validate_files()
    }

    fn validate_sasl(&self) -> Result<(), OptionsError> {
        let Some(mechanism) = self.sasl else {
            if self.authenticates() {
                return fault(
                    "sasl",
                    "is missing: name PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
                );
            }
            let given = [
                ("username", self.username.is_some()),
                ("password", self.password.is_some()),
                ("token", self.token.is_some()),
                ("oauth", self.oauth.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((field, _)) => fault(
                    field,
                    "needs a mechanism: set kafka.security.sasl to PLAIN, SCRAM-SHA-256, \
                     SCRAM-SHA-512 or OAUTHBEARER",
                ),
                None => Ok(()),
            };
        };
        if !self.authenticates() {
            return fault(
                "protocol",
                format!(
                    "has no SASL, but sasl = \"{}\"; write sasl_ssl",
                    mechanism.name()
                ),
            );
        }
        if mechanism == SaslMechanism::OauthBearer {
            return self.validate_oauth();
        }
        if self.token.is_some() || self.oauth.is_some() {
            return fault("sasl", "must be OAUTHBEARER where a token is used");
        }
        if self.username.as_ref().is_none_or(String::is_empty) {
            return fault("username", format!("is missing for {}", mechanism.name()));
        }
        if self
            .password
            .as_ref()
            .is_none_or(|it| it.reveal().is_empty())
        {
            return fault(
                "password",
                format!(
                    "is missing for {}; write {{ env = \"…\" }} or {{ file = \"…\" }}",
                    mechanism.name()
                ),
            );
        }
        Ok(())
    }

    fn validate_oauth(&self) -> Result<(), OptionsError> {
        if self.username.is_some() || self.password.is_some() {
            return fault(
                "sasl",
                "is OAUTHBEARER, which has no username and password; write oauth or token",
            );
        }
        match (&self.token, &self.oauth) {
            (Some(_), None) => Ok(()),
            (None, Some(oauth)) => oauth.check().map_err(|error| OptionsError::Field {
                field: format!("security.oauth.{}", error.field),
                problem: error.problem,
            }),
            (Some(_), Some(_)) => fault("token", "cannot be combined with oauth"),
            (None, None) => fault(
                "oauth",
                "is missing for OAUTHBEARER; write { token_url, client_id, client_secret }, or a \
                 token",
            ),
        }
    }

    fn validate_files(&self) -> Result<(), OptionsError> {
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        if !self.encrypts()
            && let Some((field, _)) = files.iter().find(|(_, file)| file.is_some())
        {
            return fault(
                field,
                "is used with TLS only; set kafka.security.protocol to ssl or sasl_ssl",
            );
        }
        for (field, file) in &files[..2] {
            if let Some(path) = file {
                certificates(field, path).or_else(|error| fault(field, error.problem))?;
            }
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                return fault("key", "is missing: a certificate is shown with its key");
            }
            (None, Some(_)) => {
                return fault(
                    "certificate",
                    "is missing: a private key belongs to a certificate",
                );
            }
            _ => {}
        }
        let Some(path) = &self.key else {
            return match self.key_password {
                Some(_) => fault("key_password", "needs a key"),
                None => Ok(()),
            };
        };
        let pem = match std::fs::read(path) {
            Ok(pem) => pem,
            Err(error) => {
                return fault("key", format!("{} cannot be read: {error}", path.display()));
            }
        };
        if !String::from_utf8_lossy(&pem).contains("PRIVATE KEY-----") {
            return fault(
                "key",
                format!(
                    "{} contains no private key; name a PEM file with BEGIN PRIVATE KEY",
                    path.display()
                ),
            );
        }
        if is_encrypted_key(&pem) && self.key_password.is_none() {
            return fault(
                "key_password",
                format!("is missing: {} is encrypted", path.display()),
            );
        }
        Ok(())
    }

    /// Adds the section to a client's settings.
    pub(crate) fn set(&self, config: &mut ClientConfig) {
        if self.is_absent() {
            return;
        }
        let protocol = match self.protocol() {
            SecurityProtocol::Plaintext => "plaintext",
            SecurityProtocol::Ssl => "ssl",
            SecurityProtocol::SaslPlaintext => "sasl_plaintext",
            SecurityProtocol::SaslSsl => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if self.encrypts() {
            // The bundled OpenSSL knows no folder of this system. `probe` tries the usual ones
            // (rd_kafka_ssl_probe_and_set_default_ca_location).
            let ca = self.ca.as_deref().map_or("probe".into(), text_of);
            config.set("ssl.ca.location", ca);
            let check = if self.verify_hostname {
                "https"
            } else {
                "none"
            };
            config.set("ssl.endpoint.identification.algorithm", check);
            if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
                config.set("ssl.certificate.location", text_of(certificate));
                config.set("ssl.key.location", text_of(key));
            }
            if let Some(password) = &self.key_password {
                config.set("ssl.key.password", password.reveal());
            }
        }
        let Some(mechanism) = self.sasl else { return };
        config.set("sasl.mechanisms", mechanism.name());
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            config.set("sasl.username", username);
            config.set("sasl.password", password.reveal());
        }
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The settings of `kafka.client` that `[kafka.security]` makes, with the field to use instead.
pub(crate) const TYPED: [(&str, &str); 11] = [
    ("security.protocol", "protocol"),
    ("ssl.ca.location", "ca"),
    ("ssl.certificate.location", "certificate"),
    ("ssl.key.location", "key"),
    ("ssl.key.password", "key_password"),
    ("ssl.endpoint.identification.algorithm", "verify_hostname"),
    ("sasl.mechanism", "sasl"),
    ("sasl.mechanisms", "sasl"),
    ("sasl.username", "username"),
    ("sasl.password", "password"),
    ("sasl.oauthbearer.config", "token"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<SecurityOptions, String> {
        let options: SecurityOptions =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        match options.validate() {
            Ok(()) => Ok(options),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_protocol_follows_from_what_is_given() {
        let cases = [
            ("{}", SecurityProtocol::Plaintext),
            (
                r#"{"sasl":"PLAIN","username":"u","password":"p"}"#,
                SecurityProtocol::SaslSsl,
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-512","username":"u","password":"p"}"#,
                SecurityProtocol::SaslSsl,
            ),
            (
                r#"{"sasl":"SCRAM-SHA-256","username":"u","password":"p","protocol":"sasl_plaintext"}"#,
                SecurityProtocol::SaslPlaintext,
            ),
            (r#"{"protocol":"ssl"}"#, SecurityProtocol::Ssl),
            (
                r#"{"sasl":"OAUTHBEARER","token":"t"}"#,
                SecurityProtocol::SaslSsl,
            ),
        ];
        for (json, expected) in cases {
            let options = read(json).unwrap();
            assert_eq!(options.protocol(), expected, "{json}");
            let mut config = ClientConfig::new();
            options.set(&mut config);
            config.create_native_config().unwrap();
            assert_eq!(
                config.get("ssl.ca.location"),
                options.encrypts().then_some("probe")
            );
        }
    }

    #[test]
    fn faults_name_the_setting_and_the_remedy() {
        let cases = [
            (
                r#"{"sasl":"PLAIN","password":"p"}"#,
                "kafka.security.username: is missing for PLAIN",
            ),
            (
                r#"{"sasl":"SCRAM-SHA-256","username":"u"}"#,
                "kafka.security.password: is missing for SCRAM-SHA-256",
            ),
            (
                r#"{"username":"u","password":"p"}"#,
                "kafka.security.username: needs a mechanism",
            ),
            (
                r#"{"protocol":"sasl_ssl"}"#,
                "kafka.security.sasl: is missing",
            ),
            (
                r#"{"protocol":"ssl","sasl":"PLAIN","username":"u","password":"p"}"#,
                "kafka.security.protocol: has no SASL",
            ),
            (
                r#"{"sasl":"OAUTHBEARER"}"#,
                "kafka.security.oauth: is missing",
            ),
            (
                r#"{"sasl":"OAUTHBEARER","oauth":{"token_url":"https://u:hunter2@x/t"}}"#,
                "kafka.security.oauth.token_url: https://x/t has a user or password",
            ),
            (
                r#"{"sasl":"OAUTHBEARER","oauth":{"token_url":"https://x/t","client_id":"c"}}"#,
                "kafka.security.oauth.client_secret: is missing",
            ),
            (
                r#"{"ca":"no-such-file.pem"}"#,
                "kafka.security.ca: no-such-file.pem cannot be read",
            ),
            (
                r#"{"protocol":"plaintext","ca":"no-such-file.pem"}"#,
                "kafka.security.ca: is used with TLS only",
            ),
            (
                r#"{"key":"k.pem"}"#,
                "kafka.security.certificate: is missing",
            ),
            (r#"{"sasl":"GSSAPI"}"#, "unknown variant `GSSAPI`"),
        ];
        for (json, expected) in cases {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn every_typed_setting_is_one_of_librdkafka() {
        for (key, _) in TYPED {
            let value = match key {
                "security.protocol" => "ssl",
                "ssl.endpoint.identification.algorithm" => "none",
                _ => "x",
            };
            let mut config = ClientConfig::new();
            config.set(key, value);
            config.create_native_config().unwrap();
        }
    }
}
