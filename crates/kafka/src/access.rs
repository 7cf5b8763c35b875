//! [`Access`]: who this program is to the brokers, and the words for a broker that denies access.
//!
//! librdkafka tries again for ever after a wrong password or a certificate that it does not trust,
//! with a log line for each try. Callbacks note the last such denial here. Whoever waits for an
//! answer looks at the note, and fails with one sentence where the brokers never let this client
//! in. A client that was let in before waits: permissions and certificates are being replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::error::RDKafkaErrorCode;

use leadpulse_engine::ports::{PortCause, PortError};
use leadpulse_registry::{TokenOptions, why_untrusted};

use crate::options::KafkaOptions;
use crate::security::{SaslMechanism, SecurityOptions};

/// Limit of our own look at a broker's certificate.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Lifetime of a token that the configuration gives: until the process ends, or longer.
const STATIC_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// A denial as librdkafka reported it.
#[derive(Clone, Debug)]
struct Denial {
    code: RDKafkaErrorCode,
    /// librdkafka's text, with the broker's address in front.
    reason: String,
}

/// The identity of one client, and what the brokers made of it.
pub(crate) struct Access {
    brokers: String,
    security: SecurityOptions,
    /// The user as the configuration names it, for messages.
    principal: String,
    denial: Mutex<Option<Denial>>,
    /// True once a broker answered a question of this client.
    admitted: AtomicBool,
}

/// True for errors of connections that no broker lets in.
fn is_denied_connection(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::UnsupportedSASLMechanism
    )
}

impl Access {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        Self {
            brokers: options.brokers.clone(),
            security: options.security.clone(),
            principal: options.principal(),
            denial: Mutex::default(),
            admitted: AtomicBool::new(false),
        }
    }

    /// Notes an error of librdkafka. True if the error is a denial, which needs no log line of its
    /// own: it comes again with every connection.
    pub(crate) fn note(&self, code: RDKafkaErrorCode, reason: &str) -> bool {
        if code == RDKafkaErrorCode::AllBrokersDown {
            // They are not down: they let nobody in.
            return self.lock().is_some();
        }
        if !is_denied_connection(code) {
            return false;
        }
        let denial = Denial {
            code,
            reason: reason.to_owned(),
        };
        *self.lock() = Some(denial);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Denial>> {
        self.denial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a broker answered: earlier denials are past.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
        *self.lock() = None;
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
        let denial = self.lock().clone();
        let Some(denial) = denial else {
            return unanswered;
        };
        let message = format!("kafka: {}", self.sentence(&denial));
        if self.is_admitted() {
            PortError::retriable(PortCause::NoAnswer, message)
        } else {
            PortError::fatal(PortCause::Refused, message)
        }
    }

    fn sentence(&self, denial: &Denial) -> String {
        let broker = broker_of(&denial.reason).unwrap_or(&self.brokers);
        match denial.code {
            RDKafkaErrorCode::SSL => self.tls_sentence(broker, &denial.reason),
            RDKafkaErrorCode::UnsupportedSASLMechanism => self.mechanism_sentence(broker),
            _ if denial.reason.contains("UNSUPPORTED_SASL_MECHANISM") => {
                self.mechanism_sentence(broker)
            }
            _ => {
                let remedy = match self.security.sasl {
                    Some(SaslMechanism::OauthBearer) => {
                        "see the token that kafka.security.oauth or token gives"
                    }
                    Some(_) => "see kafka.security.username and password",
                    None => "see kafka.security",
                };
                let said = last_part(&denial.reason);
                format!(
                    "broker {broker} refuses the login of {}: {remedy} ({said})",
                    self.principal
                )
            }
        }
    }

    fn mechanism_sentence(&self, broker: &str) -> String {
        let mechanism = self.security.sasl.map_or("SASL", SaslMechanism::name);
        format!(
            "broker {broker} does not offer {mechanism}: set kafka.security.sasl to a mechanism \
             of that listener, or name another port in kafka.brokers"
        )
    }

    fn tls_sentence(&self, broker: &str, reason: &str) -> String {
        if reason.contains("certificate verify failed")
            || reason.contains("verify failed")
            || reason.contains("hostname mismatch")
        {
            let why = why_untrusted(broker, &self.security.tls_files(), LOOK_LIMIT);
            let why = why.unwrap_or_else(|| "its certificate is not accepted".into());
            return format!(
                "broker {broker} is not trusted: {why}; renew it, or see kafka.security.ca and \
                 the names in kafka.brokers"
            );
        }
        if reason.contains("alert") && reason.contains("certificate") {
            return format!(
                "broker {broker} does not accept this program's certificate: see \
                 kafka.security.certificate and key ({})",
                last_part(reason)
            );
        }
        if reason.contains("wrong version number") || reason.contains("Disconnected") {
            return format!(
                "broker {broker} does not speak TLS on this port: correct the port in \
                 kafka.brokers, or set kafka.security.protocol"
            );
        }
        format!(
            "no TLS connection to broker {broker}: {}; see kafka.security",
            last_part(reason)
        )
    }

    /// The sentence of a permission that a broker denies; `None` for other errors. `subject` names
    /// the topic, group or transactional id.
    pub(crate) fn permission(&self, code: RDKafkaErrorCode, subject: &str) -> Option<String> {
        let (what, grant) = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed => (
                "the topic",
                "Read and Describe on input topics, Write, Read and Describe on output topics",
            ),
            RDKafkaErrorCode::GroupAuthorizationFailed => ("the group", "Read on the group"),
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed => (
                "the transactional id",
                "Write and Describe on the transactional id",
            ),
            RDKafkaErrorCode::ClusterAuthorizationFailed => {
                ("the cluster", "IdempotentWrite on the cluster, or Create")
            }
            _ => return None,
        };
        let subject = if subject.is_empty() { what } else { subject };
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
                let fetched = endpoint.fetch().inspect_err(|why| {
                    self.note(RDKafkaErrorCode::Authentication, why);
                })?;
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
    let address = reason.split_once("://")?.1;
    let end = address.find(['/', ' '])?;
    Some(&address[..end])
}

/// librdkafka's text without the broker in front and the state at the end.
fn last_part(reason: &str) -> &str {
    let said = match reason.split_once("://") {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, said)| said),
        None => reason,
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
        assert!(!access.note(RDKafkaErrorCode::AllBrokersDown, "all down"));
        assert!(access.note(RDKafkaErrorCode::Authentication, LOGIN));
        assert!(access.note(RDKafkaErrorCode::AllBrokersDown, "all down"));
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
    fn a_denied_permission_names_user_and_subject() {
        let access = access();
        let text = access
            .permission(
                RDKafkaErrorCode::TopicAuthorizationFailed,
                "topic 'crm.leads'",
            )
            .unwrap();
        assert!(text.contains("user 'alice'") && text.contains("topic 'crm.leads'"));
        assert_eq!(
            access.permission(RDKafkaErrorCode::OperationTimedOut, "x"),
            None
        );
    }

    #[test]
    fn tls_faults_are_told_apart() {
        let access = access();
        let cases = [
            (
                "ssl://b:1/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number (after 1ms in state SSL_HANDSHAKE)",
                "does not speak TLS",
            ),
            (
                "ssl://b:1/bootstrap: SSL handshake failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42 (after 1ms in state SSL_HANDSHAKE)",
                "does not accept this program's certificate",
            ),
        ];
        for (reason, expected) in cases {
            let text = access.tls_sentence("b:1", reason);
            assert!(text.contains(expected), "{text}");
        }
    }
}
