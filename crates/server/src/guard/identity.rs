//! The client of a request: a token's, a proxy's user, or an address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use ipnet::IpNet;
use subtle::ConstantTimeEq;

use super::Peer;
use crate::api::answer::ApiError;
use crate::options::{BearerToken, Scope, ServerOptions};

/// Header in which a proxy names the user that it authenticated.
const FORWARDED_USER: &str = "x-forwarded-user";
/// Longest name of a proxy's user, bytes.
const MAX_USER_BYTES: usize = 256;

/// The client of a request. Rates are counted by client, and audit lines name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A client with a token of the configuration.
    Token { name: Arc<str>, scope: Scope },
    /// A user whom a trusted proxy names.
    User { name: Arc<str>, scope: Scope },
    /// A client without a name. IPv6 addresses are of a network of 64 bits, which one machine has.
    Address(IpAddr),
}

impl Client {
    /// A client without an address.
    pub const UNKNOWN: Self = Self::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// The name in rows and logs that the client causes: of the token or the user, else the address.
    pub fn name(&self) -> String {
        match self {
            Self::Token { name, .. } | Self::User { name, .. } => name.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { name, .. } => write!(f, "token {name}"),
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// The clients that the configuration knows.
#[derive(Debug)]
pub(crate) struct Identities {
    tokens: Vec<(Arc<str>, BearerToken, Scope)>,
    proxies: Vec<IpNet>,
    operators: Vec<String>,
}

impl Identities {
    pub fn new(options: &ServerOptions, proxies: Vec<IpNet>) -> Self {
        let tokens = options.access.tokens.iter();
        Self {
            tokens: tokens
                .map(|(name, access)| (Arc::from(&**name), access.token.clone(), access.scope))
                .collect(),
            proxies,
            operators: options.access.operators.clone(),
        }
    }

    /// True if no client is known, so that nobody can be asked for a name.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.proxies.is_empty()
    }

    /// The client of a request.
    ///
    /// # Errors
    /// A bearer token that is none of the configuration.
    pub fn client(&self, peer: Option<Peer>, headers: &HeaderMap) -> Result<Client, ApiError> {
        if let Some(token) = bearer(headers)
            && !self.tokens.is_empty()
        {
            return self.of_token(token);
        }
        let Some(Peer(peer)) = peer else {
            return Ok(Client::UNKNOWN);
        };
        let address = peer.ip().to_canonical();
        if let Some(user) = self.forwarded(address, headers) {
            return Ok(user);
        }
        Ok(Client::Address(network_of(address)))
    }

    fn of_token(&self, token: &[u8]) -> Result<Client, ApiError> {
        let mut found = None;
        // All are compared, each in constant time: the time tells nothing about any of them.
        for (name, known, scope) in &self.tokens {
            if bool::from(known.bytes().ct_eq(token)) {
                found = Some(Client::Token {
                    name: name.clone(),
                    scope: *scope,
                });
            }
        }
        found.ok_or_else(|| {
            ApiError::new(
                StatusCode::UNAUTHORIZED,
                "the bearer token is not known",
                "tokens are set in server.access.tokens, and read at the start",
            )
        })
    }

    /// The user that a trusted proxy names. The header of anybody else is not looked at.
    fn forwarded(&self, address: IpAddr, headers: &HeaderMap) -> Option<Client> {
        self.proxies.iter().find(|net| net.contains(&address))?;
        let mut names = headers.get_all(FORWARDED_USER).iter();
        // A proxy replaces the header. Two of them mean that one came from outside.
        let (name, None) = (names.next()?.to_str().ok()?, names.next()) else {
            return None;
        };
        if name.is_empty() || name.len() > MAX_USER_BYTES {
            return None;
        }
        let is_operator = self.operators.iter().any(|operator| operator == name);
        Some(Client::User {
            name: name.into(),
            scope: match is_operator {
                true => Scope::Operate,
                false => Scope::Read,
            },
        })
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// The address of an IPv4 machine, or the network of an IPv6 machine.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
