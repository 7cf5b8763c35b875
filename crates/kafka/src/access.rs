//! [`Access`]: who this program is to the brokers, and the words for a broker that denies access.
//!
//! librdkafka tries again for ever after a wrong password or a certificate that it does not trust,
//! with a log line for each try. Callbacks note the last such denial here. Whoever waits for an
//! answer looks at the note, and fails with one sentence where the brokers never let this client
//! in. A client that was let in before waits: permissions and certificates are being replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::error::RDKafkaErrorCode;
use rustc_hash::FxHashMap;

use leadpulse_engine::ports::{PortCause, PortError};
use leadpulse_registry::{TokenError, TokenOptions, why_untrusted};

use crate::options::KafkaOptions;
use crate::output_topics::OutputTopics;
use crate::security::{SaslMechanism, SecurityOptions};

/// Limit of our own look at a broker's certificate.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Lifetime of a token that the configuration gives: until the process ends, or longer.
const STATIC_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Least time between two log lines about errors of one code.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// Beginning of librdkafka's own error after a token could not be had.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

/// The way in which connections fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DenialKind {
    /// The broker knows the user or the password otherwise.
    Login,
    /// The broker's listener does not have the mechanism.
    Mechanism,
    /// The broker's certificate is not accepted here.
    UntrustedBroker,
    /// The broker does not accept the certificate of this program, or wants one.
    OwnCertificate,
    /// The other side does not speak TLS, or went away while TLS began.
    NoTls,
    /// The other side went away at the first request that was not encrypted.
    WantsTls,
    /// The brokers deny the group, so that nobody says who keeps its offsets.
    Group,
    /// The endpoint gives no token.
    Token,
    /// The endpoint does not answer.
    NoTokenYet,
}

impl DenialKind {
    /// The kind of an error of librdkafka; `None` for one that waiting cures.
    ///
    /// The codes do not tell: a certificate that is not accepted is reported as a lost connection
    /// too, with a text of OpenSSL (librdkafka 2.12, measured).
    fn of(code: RDKafkaErrorCode, reason: &str) -> Option<Self> {
        let has = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
        if has(&["Unsupported SASL mechanism", "UNSUPPORTED_SASL_MECHANISM"]) {
            return Some(Self::Mechanism);
        }
        if has(&["certificate verify failed", "hostname mismatch"]) {
            return Some(Self::UntrustedBroker);
        }
        if has(&["alert"]) && has(&["certificate", "unknown ca"]) {
            return Some(Self::OwnCertificate);
        }
        if has(&["PLAINTEXT broker listener", "wrong version number"]) {
            return Some(Self::NoTls);
        }
        if has(&["Disconnected"]) && has(&["APIVERSION_QUERY"]) && !has(&["ssl://"]) {
            return Some(Self::WantsTls);
        }
        match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                Some(Self::Login)
            }
            RDKafkaErrorCode::UnsupportedSASLMechanism => Some(Self::Mechanism),
            _ => None,
        }
    }

    /// True for what a broker or an endpoint does as well while it stops or starts.
    fn may_pass(self) -> bool {
        matches!(self, Self::NoTls | Self::WantsTls | Self::NoTokenYet)
    }
}

/// A denial as librdkafka or a token endpoint reported it.
#[derive(Clone, Debug)]
struct Denial {
    kind: DenialKind,
    /// librdkafka's text, with the broker's address in front; for a token the endpoint's.
    reason: String,
}

/// The identity of one client, and what the brokers made of it.
pub(crate) struct Access {
    brokers: String,
    group_id: String,
    security: SecurityOptions,
    outputs: OutputTopics,
    /// The user as the configuration names it, for messages.
    principal: String,
    denial: Mutex<Option<Denial>>,
    /// True once a broker answered a question of this client.
    admitted: AtomicBool,
    /// True once the group's offsets were read.
    group_admitted: AtomicBool,
    /// Time of the newest log line by error code.
    logged: Mutex<FxHashMap<i32, Instant>>,
}

/// True for errors that deny a permission: the question that asked for it reports them.
fn is_denied_permission(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

impl Access {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        Self {
            brokers: options.brokers.clone(),
            group_id: options.group_id.clone(),
            security: options.security.clone(),
            outputs: options.outputs.clone(),
            principal: options.principal(),
            denial: Mutex::default(),
            admitted: AtomicBool::new(false),
            group_admitted: AtomicBool::new(false),
            logged: Mutex::default(),
        }
    }

    /// Notes an error of librdkafka. False if the error needs no log line: it is a denial, which
    /// comes again with every connection and is reported in words, or it was logged a moment ago.
    pub(crate) fn note(&self, code: RDKafkaErrorCode, reason: &str) -> bool {
        if is_denied_permission(code) {
            // The question for the group's offsets waits for a coordinator until its limit, and then
            // reports that nobody answered.
            if code == RDKafkaErrorCode::GroupAuthorizationFailed {
                *self.denial() = Some(Denial {
                    kind: DenialKind::Group,
                    reason: reason.to_owned(),
                });
            }
            return false;
        }
        if code == RDKafkaErrorCode::AllBrokersDown && self.denial().is_some() {
            return false; // they are not down: they let nobody in
        }
        if let Some(kind) = DenialKind::of(code, reason) {
            // The endpoint's own words are noted already.
            if !reason.contains(NO_TOKEN) {
                *self.denial() = Some(Denial {
                    kind,
                    reason: reason.to_owned(),
                });
            }
            return false;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = logged.insert(code as i32, Instant::now());
        before.is_none_or(|at| at.elapsed() >= LOG_PAUSE)
    }

    /// Notes a lost connection of a client that no broker has answered yet, from librdkafka's log:
    /// there is no error for a broker that goes away at the first request.
    pub(crate) fn note_lost(&self, line: &str) {
        // Like `[thrd:b:9092/bootstrap]: b:9092/bootstrap: Disconnected: …`.
        let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
        let kind = DenialKind::of(RDKafkaErrorCode::BrokerTransportFailure, reason);
        let mut denial = self.denial();
        if kind == Some(DenialKind::WantsTls) && denial.is_none() && !self.is_admitted() {
            *denial = Some(Denial {
                kind: DenialKind::WantsTls,
                reason: reason.to_owned(),
            });
        }
    }

    fn note_token(&self, error: &TokenError) -> String {
        let kind = match error {
            TokenError::Refused(_) => DenialKind::Token,
            TokenError::NoAnswer(_) => DenialKind::NoTokenYet,
        };
        let reason = error.to_string();
        *self.denial() = Some(Denial {
            kind,
            reason: reason.clone(),
        });
        reason
    }

    fn denial(&self) -> MutexGuard<'_, Option<Denial>> {
        self.denial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a broker answered: earlier denials are past.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
        *self.denial() = None;
    }

    /// Notes that the group's offsets were read.
    pub(crate) fn admit_group(&self) {
        self.group_admitted.store(true, Ordering::Relaxed);
        self.admit();
    }

    /// True once a broker answered a question of this client.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// The error of a question that no broker answered, with the denial as its cause where there
    /// is one.
    pub(crate) fn explain(&self, unanswered: PortError) -> PortError {
        if !matches!(unanswered, PortError::Retriable(_)) {
            return unanswered;
        }
        let denial = self.denial().clone();
        let Some(denial) = denial else {
            return unanswered;
        };
        let message = format!("kafka: {}", self.sentence(&denial));
        let was_let_in = match denial.kind {
            DenialKind::Group => self.group_admitted.load(Ordering::Relaxed),
            _ => self.is_admitted(),
        };
        if was_let_in || denial.kind.may_pass() {
            PortError::retriable(PortCause::NoAnswer, message)
        } else {
            PortError::fatal(PortCause::Refused, message)
        }
    }

    fn sentence(&self, denial: &Denial) -> String {
        let broker = broker_of(&denial.reason).unwrap_or(&self.brokers);
        let said = last_part(&denial.reason);
        match denial.kind {
            DenialKind::Token | DenialKind::NoTokenYet => denial.reason.clone(),
            DenialKind::Group => {
                let group = format!("group '{}'", self.group_id);
                let code = RDKafkaErrorCode::GroupAuthorizationFailed;
                self.permission(code, &group).unwrap_or(group)
            }
            DenialKind::Login => {
                let remedy = match self.security.sasl {
                    Some(SaslMechanism::OauthBearer) => {
                        "see the token that kafka.security.oauth or token gives"
                    }
                    Some(_) => "see kafka.security.username and password",
                    None => "see kafka.security",
                };
                format!(
                    "broker {broker} refuses the login of {}: {remedy} ({said})",
                    self.principal
                )
            }
            DenialKind::Mechanism => {
                let mechanism = self.security.sasl.map_or("SASL", SaslMechanism::name);
                format!(
                    "broker {broker} does not offer {mechanism}: set kafka.security.sasl to a \
                     mechanism of that listener, or name another port in kafka.brokers ({said})"
                )
            }
            DenialKind::UntrustedBroker => {
                let why = why_untrusted(broker, &self.security.tls_files(), LOOK_LIMIT);
                let why = why.unwrap_or_else(|| "its certificate is not accepted".into());
                format!(
                    "broker {broker} is not trusted: {why}; renew it, or see kafka.security.ca \
                     and the names in kafka.brokers"
                )
            }
            DenialKind::OwnCertificate => format!(
                "broker {broker} does not accept this program's certificate, or wants one: see \
                 kafka.security.certificate and key ({said})"
            ),
            DenialKind::NoTls => format!(
                "broker {broker} does not speak TLS on this port: correct the port in \
                 kafka.brokers, or set kafka.security.protocol"
            ),
            DenialKind::WantsTls => format!(
                "broker {broker} closes the connection at the first request: if this port wants \
                 TLS or a login, set kafka.security"
            ),
        }
    }

    /// The sentence of a permission that a broker denies; `None` for other errors. `subject` names
    /// the topic, group or transactional id.
    pub(crate) fn permission(&self, code: RDKafkaErrorCode, subject: &str) -> Option<String> {
        let is_output = || {
            let mut names = self.outputs.fields().into_iter();
            names.any(|(_, name)| subject.contains(&format!("'{name}'")))
        };
        let (what, grant) = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed if is_output() => {
                ("a topic", "Write, Read and Describe on it")
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => ("a topic", "Read and Describe on it"),
            RDKafkaErrorCode::GroupAuthorizationFailed => ("the group", "Read on it"),
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed => {
                ("the transactional id", "Write and Describe on it")
            }
            RDKafkaErrorCode::ClusterAuthorizationFailed => {
                ("the cluster", "IdempotentWrite on the cluster")
            }
            _ => return None,
        };
        // A question about one thing may be denied for another: positions of a group for a topic.
        let kind = what.trim_start_matches("a ").trim_start_matches("the ");
        let subject = if subject.contains(kind) {
            subject
        } else {
            what
        };
        Some(format!(
            "the brokers ({}) deny {} access to {subject}: grant {grant} (kafka-acls)",
            self.brokers, self.principal
        ))
    }

    /// The token for a connection with OAUTHBEARER.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    #[allow(
        clippy::disallowed_methods,
        reason = "librdkafka wants a token's end by the wall clock"
    )]
    pub(crate) fn token(&self) -> Result<OAuthToken, String> {
        let (token, lifetime) = match (&self.security.token, &self.security.oauth) {
            (Some(token), _) => (token.reveal().to_owned(), STATIC_LIFETIME),
            (None, Some(endpoint)) => {
                let fetched = endpoint.fetch().map_err(|error| self.note_token(&error))?;
                (fetched.token.reveal().to_owned(), fetched.lifetime)
            }
            (None, None) => return Err("kafka.security has neither oauth nor token".into()),
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let end = now.unwrap_or_default() + lifetime;
        let client_id = |endpoint: &TokenOptions| endpoint.client_id.clone();
        Ok(OAuthToken {
            token,
            principal_name: self
                .security
                .oauth
                .as_ref()
                .map_or_else(String::new, client_id),
            lifetime_ms: end.as_millis() as i64,
        })
    }
}

/// The address in front of librdkafka's text, as in `sasl_ssl://host:9093/bootstrap: …`.
fn broker_of(reason: &str) -> Option<&str> {
    let address = reason.split_once("://").map_or(reason, |(_, rest)| rest);
    let end = address.find(['/', ' '])?;
    // Without a scheme the text may start with anything.
    address[..end].contains(':').then_some(&address[..end])
}

/// librdkafka's text without the broker in front and the state at the end.
fn last_part(reason: &str) -> &str {
    let rest = reason.split_once("://").map_or(reason, |(_, rest)| rest);
    let said = match rest.split_once(": ") {
        Some((broker, said)) if broker.contains('/') => said,
        _ => rest,
    };
    said.rfind(" (after ").map_or(said, |end| &said[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let mut options = KafkaOptions::default();
        options.security.sasl = Some(SaslMechanism::ScramSha256);
        options.security.username = Some("alice".into());
        Access::new(&options)
    }

    const LOGIN: &str = "sasl_ssl://kafka.example:9093/bootstrap: SASL authentication error: \
         Authentication failed during authentication due to invalid credentials with SASL \
         mechanism SCRAM-SHA-256 (after 300ms in state AUTH_REQ)";

    #[test]
    fn a_denied_login_is_fatal_until_the_client_was_let_in_once() {
        let access = access();
        let waits = || PortError::retriable(PortCause::NoAnswer, "no answer");
        assert!(matches!(access.explain(waits()), PortError::Retriable(_)));
        assert!(access.note(RDKafkaErrorCode::AllBrokersDown, "all down"));
        assert!(!access.note(RDKafkaErrorCode::AllBrokersDown, "said already"));
        assert!(!access.note(RDKafkaErrorCode::Authentication, LOGIN));
        let denied = access.explain(waits());
        let text = denied.to_string();
        assert!(matches!(denied, PortError::Fatal(_)), "{text}");
        for part in [
            "broker kafka.example:9093 refuses the login of user 'alice'",
            "kafka.security.username",
            "invalid credentials",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("AUTH_REQ"), "{text}");
        access.admit();
        assert_eq!(access.explain(waits()).to_string(), "no answer");
        access.note(RDKafkaErrorCode::Authentication, LOGIN);
        assert!(matches!(access.explain(waits()), PortError::Retriable(_)));
    }

    #[test]
    fn a_denied_group_is_named_where_its_offsets_are_not_answered() {
        let access = access();
        let waits = || PortError::retriable(PortCause::NoAnswer, "timed out");
        access.admit();
        assert!(!access.note(
            RDKafkaErrorCode::GroupAuthorizationFailed,
            "FindCoordinator response error: Group authorization failed."
        ));
        let denied = access.explain(waits());
        let text = denied.to_string();
        assert!(matches!(denied, PortError::Fatal(_)), "{text}");
        assert!(
            text.contains("user 'alice' access to group 'leadpulse': grant Read"),
            "{text}"
        );
        access.admit_group();
        assert_eq!(access.explain(waits()).to_string(), "timed out");
    }

    #[test]
    fn a_denied_permission_names_user_and_subject() {
        let access = access();
        let text = access
            .permission(
                RDKafkaErrorCode::TopicAuthorizationFailed,
                "topic 'crm.leads'",
            )
            .unwrap();
        assert!(text.contains("user 'alice'") && text.contains("topic 'crm.leads'"));
        let of_group = access.permission(RDKafkaErrorCode::TopicAuthorizationFailed, "group 'g'");
        assert!(of_group.unwrap().contains("access to a topic: grant Read"));
        assert_eq!(
            access.permission(RDKafkaErrorCode::OperationTimedOut, "x"),
            None
        );
    }

    #[test]
    fn denials_are_told_apart_by_librdkafkas_text() {
        use DenialKind::{Mechanism, NoTls, OwnCertificate, UntrustedBroker, WantsTls};
        let cases = [
            (
                "sasl_ssl://b:1/bootstrap: error:0A000086:SSL routines::certificate verify failed \
                 (after 10ms in state SSL_HANDSHAKE)",
                Some(UntrustedBroker),
            ),
            (
                "ssl://b:1/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert \
                 bad certificate: SSL alert number 42 (after 0ms in state APIVERSION_QUERY)",
                Some(OwnCertificate),
            ),
            (
                "sasl_ssl://b:1/bootstrap: SSL handshake failed: Disconnected: SSL connection \
                 closed by peer: connecting to a PLAINTEXT broker listener? (after 6ms in state \
                 SSL_HANDSHAKE)",
                Some(NoTls),
            ),
            (
                "b:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN \
                 (after 0ms in state APIVERSION_QUERY)",
                Some(WantsTls),
            ),
            (
                "sasl_ssl://b:1/bootstrap: SASL SCRAM-SHA-512 mechanism handshake failed: Broker: \
                 Unsupported SASL mechanism: broker's supported mechanisms: OAUTHBEARER (after \
                 301ms in state AUTH_HANDSHAKE)",
                Some(Mechanism),
            ),
            (
                "sasl_ssl://b:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused \
                 (after 0ms in state CONNECT)",
                None,
            ),
        ];
        for (reason, expected) in cases {
            let code = RDKafkaErrorCode::BrokerTransportFailure;
            assert_eq!(DenialKind::of(code, reason), expected, "{reason}");
        }
        assert_eq!(
            last_part(cases[3].0),
            "Disconnected: connection closed by peer: receive 0 after POLLIN"
        );
    }
}
