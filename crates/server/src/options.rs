//! Options of the server, and its errors.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use leadpulse_schema::units::as_span;

/// Shortest bearer token, bytes: 16 random bytes in hexadecimal have 32.
const MIN_TOKEN_BYTES: usize = 16;

/// Options of the server, as in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Address and port. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Longest silence of the engine's loop before `/healthz` fails, milliseconds.
    #[serde(
        rename = "heartbeat_timeout",
        alias = "heartbeat_timeout_ms",
        with = "as_span::ms"
    )]
    pub heartbeat_timeout_ms: u64,
    /// Path before all paths, such as `/leadpulse` behind a proxy that passes it on; empty for none.
    pub base_path: String,
    /// Names that requests may have in `Host`, without ports, besides IP addresses and `localhost`;
    /// `*` accepts any. A name that is not listed may be an attacker's, who lets it resolve to this
    /// address.
    pub hosts: Vec<String>,
    /// Clients, and the operations that they may ask for.
    pub access: AccessOptions,
    /// Limits of connections and requests.
    pub limits: LimitOptions,
}

/// Clients, and the operations that they may ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessOptions {
    /// Bearer tokens by name of the client; the name stands in the audit log.
    pub tokens: BTreeMap<String, TokenAccess>,
    /// Addresses or networks of proxies whose `X-Forwarded-User` is believed.
    pub proxies: Vec<String>,
    /// Users of the proxies with scope `operate`; others have `read`.
    pub operators: Vec<String>,
}

/// One client with a bearer token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenAccess {
    /// The token: a reference to a file or to a variable.
    pub token: BearerToken,
    /// Operations of the client.
    pub scope: Scope,
}

/// Operations that a client may ask for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Answers from committed state.
    #[default]
    Read,
    /// Also operations that change something or need minutes of work.
    Operate,
}

impl Scope {
    /// Name in the configuration and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// A bearer token. `Debug` and serialisation give `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct BearerToken(String);

impl BearerToken {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for BearerToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Limits of connections and requests. All are at least 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOptions {
    /// Connections open at once; further ones are closed at once.
    pub connections: usize,
    /// Connections of one address open at once.
    pub connections_per_address: usize,
    /// Requests that are being answered at once; further ones get 503.
    pub requests_at_once: usize,
    /// Streams of events open at once; further ones get 503.
    pub streams: usize,
    /// Requests of one client (token, user or address) per second, on average; further ones get 429.
    pub requests_per_second: u32,
    /// Requests of one client that may come at once after a pause.
    pub burst: u32,
    /// Longest body of a request, bytes.
    pub body_bytes: usize,
    /// Longest query string of a request, bytes.
    pub query_bytes: usize,
    /// Longest time for the head of a request, also of the next one on an open connection,
    /// milliseconds.
    #[serde(rename = "head_timeout", with = "as_span::ms")]
    pub head_timeout_ms: u64,
    /// Longest time for the body of a request, milliseconds.
    #[serde(rename = "body_timeout", with = "as_span::ms")]
    pub body_timeout_ms: u64,
    /// Longest time in which a client takes no byte of an answer, milliseconds.
    #[serde(rename = "write_timeout", with = "as_span::ms")]
    pub write_timeout_ms: u64,
    /// Longest time of a job on the files of `--history`, milliseconds.
    #[serde(rename = "history_timeout", with = "as_span::ms")]
    pub history_timeout_ms: u64,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 256,
            requests_at_once: 128,
            streams: 64,
            requests_per_second: 500,
            burst: 1000,
            body_bytes: 256 * 1024,
            query_bytes: 8 * 1024,
            head_timeout_ms: 15_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 30_000,
            history_timeout_ms: 600_000,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            heartbeat_timeout_ms: 30_000,
            base_path: String::new(),
            hosts: Vec::new(),
            access: AccessOptions::default(),
            limits: LimitOptions::default(),
        }
    }
}

/// Options that were checked.
#[derive(Clone, Debug)]
pub(crate) struct CheckedOptions {
    pub options: ServerOptions,
    /// Networks of the proxies that are believed.
    pub proxies: Vec<IpNet>,
}

impl ServerOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), ServerError> {
        self.checked().map(drop)
    }

    pub(crate) fn checked(&self) -> Result<CheckedOptions, ServerError> {
        let fault = |setting: &str, problem: &str| ServerError::Setting {
            setting: setting.to_owned(),
            problem: problem.to_owned(),
        };
        let base = &self.base_path;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        if !base.is_empty()
            && (!base.starts_with('/') || base.ends_with('/') || !base.chars().all(is_plain))
        {
            let problem = "must start with / and not end with it, such as \"/leadpulse\"";
            return Err(fault("server.base_path", problem));
        }
        for (name, token) in &self.access.tokens {
            let bytes = token.token.bytes();
            let is_graphic = bytes.iter().all(u8::is_ascii_graphic);
            if bytes.len() < MIN_TOKEN_BYTES || !is_graphic {
                let setting = format!("server.access.tokens.{name}.token");
                let problem = "must have at least 16 characters, without spaces; make one with openssl rand -hex 32";
                return Err(fault(&setting, problem));
            }
        }
        let mut proxies = Vec::new();
        for text in &self.access.proxies {
            let network = text
                .parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let problem = "must be an address or a network, such as 10.0.0.7 or 10.0.0.0/24";
            proxies.push(
                network.map_err(|_| fault(&format!("server.access.proxies: {text:?}"), problem))?,
            );
        }
        if !self.access.operators.is_empty() && proxies.is_empty() {
            let problem = "names users of proxies, but server.access.proxies lists none";
            return Err(fault("server.access.operators", problem));
        }
        self.limits.check()?;
        Ok(CheckedOptions {
            options: self.clone(),
            proxies,
        })
    }
}

impl LimitOptions {
    fn check(&self) -> Result<(), ServerError> {
        let limits = [
            ("connections", self.connections as u64),
            (
                "connections_per_address",
                self.connections_per_address as u64,
            ),
            ("requests_at_once", self.requests_at_once as u64),
            ("streams", self.streams as u64),
            ("requests_per_second", self.requests_per_second.into()),
            ("burst", self.burst.into()),
            ("body_bytes", self.body_bytes as u64),
            ("query_bytes", self.query_bytes as u64),
            ("head_timeout", self.head_timeout_ms),
            ("body_timeout", self.body_timeout_ms),
            ("write_timeout", self.write_timeout_ms),
            ("history_timeout", self.history_timeout_ms),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            None => Ok(()),
            Some((name, _)) => Err(ServerError::Setting {
                setting: format!("server.limits.{name}"),
                problem: "must be at least 1".to_owned(),
            }),
        }
    }
}

/// Failure to start the server, or to run it to its end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting cannot be used.
    #[error("{setting} {problem}")]
    Setting {
        /// Path of the setting.
        setting: String,
        /// The fault, and the remedy.
        problem: String,
    },
    /// The address cannot be bound.
    #[error(
        "cannot listen on {listen}: {source}; is another process using the port? Choose another one with {setting}"
    )]
    Listen {
        /// Address from the configuration.
        listen: SocketAddr,
        /// The setting of the address.
        setting: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The operating system gave no threads.
    #[error("cannot start the HTTP threads: {0}; check the process's limits")]
    Threads(#[source] io::Error),
    /// The registry has metrics of another server already.
    #[error("cannot register the HTTP metrics: {0}; give each server a registry of its own")]
    Metrics(#[from] prometheus::Error),
    /// The server ended by itself.
    #[error("the HTTP server ended: {0}")]
    Ended(#[source] io::Error),
    /// The server's thread panicked.
    #[error("the HTTP server panicked; the message is in the log")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn with_token(token: &str) -> ServerOptions {
        let mut options = ServerOptions::default();
        let access = TokenAccess {
            token: BearerToken::new(token),
            scope: Scope::Read,
        };
        options.access.tokens.insert("ops".into(), access);
        options
    }

    #[rstest]
    #[case(|o: &mut ServerOptions| o.base_path = "leadpulse".into(), "server.base_path")]
    #[case(|o: &mut ServerOptions| o.base_path = "/leadpulse/".into(), "server.base_path")]
    #[case(|o: &mut ServerOptions| o.base_path = "/a?b".into(), "server.base_path")]
    #[case(|o: &mut ServerOptions| *o = with_token("short"), "server.access.tokens.ops.token")]
    #[case(|o: &mut ServerOptions| *o = with_token("with a space, and long"), "tokens.ops.token")]
    #[case(|o: &mut ServerOptions| o.access.proxies = vec!["proxy.internal".into()], "server.access.proxies")]
    #[case(|o: &mut ServerOptions| o.access.operators = vec!["ann".into()], "server.access.operators")]
    #[case(|o: &mut ServerOptions| o.limits.streams = 0, "server.limits.streams")]
    fn a_setting_that_cannot_be_used_is_named(
        #[case] change: fn(&mut ServerOptions),
        #[case] setting: &str,
    ) {
        let mut options = ServerOptions::default();
        change(&mut options);
        let error = options.check().expect_err("it is refused").to_string();
        assert!(error.contains(setting), "{error}");
        assert!(!error.contains("with a space"), "a token is printed");
    }

    #[test]
    fn a_token_is_never_printed() {
        let options = with_token("0123456789abcdef");
        let printed = format!("{options:?} {}", serde_json::to_string(&options).unwrap());
        assert!(options.check().is_ok());
        assert!(printed.contains("***") && !printed.contains("0123456789"));
    }
}
