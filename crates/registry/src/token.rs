//! Access tokens from an OAuth 2.0 token endpoint, with client credentials.
//!
//! The grant of [RFC 6749, section 4.4](https://datatracker.ietf.org/doc/html/rfc6749#section-4.4).
//! librdkafka can fetch such tokens only when it is built with curl.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Url, redirect};
use serde::{Deserialize, Serialize};

use crate::client::causes;
use crate::options::{RegistryOptionsError, plain_url};
use crate::secret::Secret;
use crate::tls::{TlsFiles, without_roots};

/// Limit of one request for a token.
const LIMIT: Duration = Duration::from_secs(10);
/// Lifetime of a token where the endpoint names none.
const LIFETIME: Duration = Duration::from_secs(300);

/// A client's registration at a token endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenOptions {
    /// URL of the token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret; never printed.
    pub client_secret: Secret,
    /// The scope asked for; some endpoints need none.
    pub scope: Option<String>,
    /// Certificates (PEM) that sign the endpoint's; the system's roots where absent.
    pub ca: Option<PathBuf>,
}

/// A token, and the time for which it is valid.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The token itself.
    pub token: Secret,
    /// Time from its receipt to its end.
    pub lifetime: Duration,
}

/// A token that could not be had, in a sentence that names the endpoint and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The endpoint refuses the client, or its answer is no token: waiting changes nothing.
    #[error("{0}")]
    Refused(String),
    /// The endpoint cannot be reached, or fails: it may answer later.
    #[error("{0}")]
    NoAnswer(String),
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    expires_in: Option<u64>,
}

impl TokenOptions {
    /// Checks the settings, without a connection. Names of fields in errors are relative.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), RegistryOptionsError> {
        plain_url("token_url", &self.token_url)?;
        let missing = |field: &str| RegistryOptionsError {
            field: field.into(),
            problem: "is missing; the endpoint's administrator gives it".into(),
        };
        if self.client_id.is_empty() {
            return Err(missing("client_id"));
        }
        if self.client_secret.reveal().is_empty() {
            return Err(missing("client_secret"));
        }
        if self.ca.is_some() {
            self.tls().client_config()?;
        }
        Ok(())
    }

    fn tls(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            ..TlsFiles::default()
        }
    }

    /// Fetches a token. Blocks the calling thread for at most some 10 s; call outside asynchronous
    /// code.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub fn fetch(&self) -> Result<AccessToken, TokenError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let failed =
            |error| TokenError::NoAnswer(format!("no runtime to ask for a token: {error}"));
        runtime.map_err(failed)?.block_on(self.ask())
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let fault = |fault: String| TokenError::Refused(fault);
        let url = plain_url("token_url", &self.token_url);
        let url = url.map_err(|error| fault(error.to_string()))?;
        let tls = if url.scheme() == "https" {
            let config = self.tls().client_config();
            config.map_err(|error| fault(error.to_string()))?
        } else {
            without_roots()
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(LIMIT)
            // A redirect would hand the secret to an address that nobody configured.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| fault(causes(&error)))?;
        let mut form = vec![("grant_type", "client_credentials")];
        if let Some(scope) = &self.scope {
            form.push(("scope", scope.as_str()));
        }
        let answer = client
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .basic_auth(
                form_encoded(&self.client_id),
                Some(form_encoded(self.client_secret.reveal())),
            )
            .body(form_body(&form))
            .send()
            .await
            .map_err(|error| self.no_answer(&url, &causes(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await;
        let body = body.map_err(|error| self.no_answer(&url, &causes(&error)))?;
        if status.is_server_error() {
            return Err(self.no_answer(&url, status.as_str()));
        }
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(fault(format!(
                "the token endpoint {url} refuses client '{}' ({status}: {said}); see client_id, \
                 client_secret and scope",
                self.client_id
            )));
        }
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
            fault(format!(
                "the token endpoint {url} answered without an access_token; see token_url"
            ))
        })?;
        Ok(AccessToken {
            token: answer.access_token,
            lifetime: answer.expires_in.map_or(LIFETIME, Duration::from_secs),
        })
    }
}

impl TokenOptions {
    fn no_answer(&self, url: &Url, why: &str) -> TokenError {
        TokenError::NoAnswer(format!(
            "the token endpoint {url} does not answer: {why}; see token_url"
        ))
    }
}

fn form_body(pairs: &[(&str, &str)]) -> String {
    // Only a URL's query encodes forms without another library.
    let mut carrier = Url::parse("http://form/").expect("the text is a URL");
    carrier.query_pairs_mut().extend_pairs(pairs);
    carrier.query().unwrap_or_default().to_owned()
}

/// A client's id or secret as [RFC 6749, section 2.3.1] wants it in a header.
///
/// [RFC 6749, section 2.3.1]: https://datatracker.ietf.org/doc/html/rfc6749#section-2.3.1
fn form_encoded(text: &str) -> String {
    form_body(&[("", text)]).trim_start_matches('=').to_owned()
}
