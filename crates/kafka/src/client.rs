//! Common parts of all librdkafka clients: logging, error classes, closing with a deadline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

use leadpulse_engine::ports::{PortCause, PortError};

use crate::access::Access;
use crate::client_settings::ClientRole;
use crate::metrics::KafkaMetrics;
use crate::options::KafkaOptions;

/// Callbacks of one client, which librdkafka calls on the thread that polls.
pub(crate) struct ClientCallbacks {
    name: &'static str,
    /// `None` for a client of a moment, outside the metrics.
    metrics: Option<Arc<KafkaMetrics>>,
    access: Access,
    failed_delivery: Mutex<Option<KafkaError>>,
}

impl ClientCallbacks {
    pub(crate) fn new(
        name: &'static str,
        options: &KafkaOptions,
        metrics: Option<&Arc<KafkaMetrics>>,
    ) -> Self {
        Self {
            name,
            metrics: metrics.map(Arc::clone),
            access: Access::new(options),
            failed_delivery: Mutex::default(),
        }
    }

    /// This client's identity, and what the brokers made of it.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    fn count(&self, error: &KafkaError) -> RDKafkaErrorCode {
        match &self.metrics {
            Some(metrics) => count_error(metrics, self.name, error),
            None => code_of(error),
        }
    }

    /// The first delivery that failed since the last call.
    pub(crate) fn take_failed_delivery(&self) -> Option<KafkaError> {
        self.failed_delivery
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for ClientCallbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Ok(self.access.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            self.access.note_lost(message);
        }
        log_line(self.name, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is news for the read that waits for it. A read that has its last
        // record leaves the event to whatever polls next.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let code = self.count(&error);
        report_error(&self.access, self.name, code, reason);
    }
}

impl ConsumerContext for ClientCallbacks {}

impl ProducerContext for ClientCallbacks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.count(error);
            self.failed_delivery
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| error.clone());
        }
    }
}

/// Notes an error of librdkafka, and logs it where it says something new.
pub(crate) fn report_error(
    access: &Access,
    client: &'static str,
    code: RDKafkaErrorCode,
    reason: &str,
) {
    // A lost connection has a line of its own in librdkafka's log.
    if access.note(code, reason) && code != RDKafkaErrorCode::BrokerTransportFailure {
        tracing::warn!(target: "librdkafka", client, code = ?code, "{reason}");
    } else {
        tracing::debug!(target: "librdkafka", client, code = ?code, "{reason}");
    }
}

/// Passes a log line of librdkafka on to this program's log.
pub(crate) fn log_line(
    client: &'static str,
    level: RDKafkaLogLevel,
    facility: &str,
    message: &str,
) {
    // Each try of a connection that is denied writes a line, and so does each denied permission.
    // The question that gets no answer says it once, in words (`access`).
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    let is_denial = match facility {
        "FAIL" => has(&["SASL", "SSL"]),
        "TXNERR" | "FATAL" => has(&["authorization failed", "AUTHORIZATION_FAILED"]),
        _ => false,
    };
    if is_denial {
        tracing::debug!(target: "librdkafka", client, facility, "{message}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", client, facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", client, facility, "{message}")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", client, facility, "{message}");
        }
    }
}

/// Counts an error of a client under its code, and returns the code.
pub(crate) fn count_error(
    metrics: &KafkaMetrics,
    client: &str,
    error: &KafkaError,
) -> RDKafkaErrorCode {
    let code = code_of(error);
    metrics.count_client_error(client, &format!("{code:?}"));
    code
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error
        .rdkafka_error_code()
        .unwrap_or(RDKafkaErrorCode::Unknown)
}

/// A consumer for `role`.
pub(crate) fn consumer(
    options: &KafkaOptions,
    role: ClientRole,
    name: &'static str,
    metrics: Option<&Arc<KafkaMetrics>>,
) -> Result<BaseConsumer<ClientCallbacks>, PortError> {
    let created = options
        .client_config(role)
        .create_with_context(ClientCallbacks::new(name, options, metrics));
    created.map_err(|error| {
        PortError::fatal(
            PortCause::Local,
            format!("kafka: the client '{name}' cannot be created: {error}"),
        )
    })
}

/// A producer for `role`.
pub(crate) fn producer(
    options: &KafkaOptions,
    role: ClientRole,
    name: &'static str,
    metrics: &Arc<KafkaMetrics>,
) -> Result<BaseProducer<ClientCallbacks>, PortError> {
    let created = options
        .client_config(role)
        .create_with_context(ClientCallbacks::new(name, options, Some(metrics)));
    created.map_err(|error| {
        PortError::fatal(
            PortCause::Local,
            format!("kafka: the client '{name}' cannot be created: {error}"),
        )
    })
}

/// True for errors of a producer that the brokers no longer accept.
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::FencedInstanceId
    )
}

/// True for a record or batch larger than librdkafka, the broker or the topic allows.
pub(crate) fn is_too_large(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::MessageBatchTooLarge
    )
}

/// True for errors that no wait and no repetition cures: an operator must change a setting, a
/// permission or a topic.
pub(crate) fn is_permanent(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::InvalidArgument
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidTransactionTimeout
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::OffsetMetadataTooLarge
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::LogTruncation
            | RDKafkaErrorCode::Fatal
    )
}

/// The port error of a librdkafka error of a client with this `access`. A denied permission is
/// worded with its user and `subject`.
pub(crate) fn port_error_of(
    access: &Access,
    doing: &str,
    subject: &str,
    error: &KafkaError,
) -> PortError {
    let code = code_of(error);
    match access.permission(code, subject) {
        Some(sentence) => PortError::fatal(PortCause::Refused, format!("kafka: {sentence}"))
            .with_origin(error.clone()),
        None => port_error(doing, error),
    }
}

/// The port error of a librdkafka error; `doing` says what was tried.
pub(crate) fn port_error(doing: &str, error: &KafkaError) -> PortError {
    let message = format!("kafka: {doing}: {error}");
    let failure = match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => PortError::fenced(PortCause::OtherOwner, message),
        Some(code) if is_permanent(code) => PortError::fatal(PortCause::Refused, message),
        Some(_) => PortError::retriable(PortCause::NoAnswer, message),
        None => PortError::fatal(PortCause::Local, message),
    };
    failure.with_origin(error.clone())
}

/// Most events that [`serve`] takes from a client's queue.
const SERVED_EVENTS: usize = 8;

/// Takes waiting events of a consumer that nothing is assigned to: errors, log lines, and requests
/// for a token. librdkafka keeps all of them until a poll, and connects with OAUTHBEARER only once
/// the request for a token was answered.
pub(crate) fn serve(consumer: &BaseConsumer<ClientCallbacks>) {
    for _ in 0..SERVED_EVENTS {
        // A poll takes one event; "none" may stand for a log line.
        let _ = consumer.poll(Duration::ZERO);
    }
}

/// Longest wait for another event of a client that gets no answer.
const EVENT_WAIT: Duration = Duration::from_millis(5);

/// Takes every waiting event of a consumer that got no answer. Log lines of many tries come before
/// the error that explains them.
pub(crate) fn serve_all(consumer: &BaseConsumer<ClientCallbacks>) {
    // A poll with a limit passes over log lines, and returns at an error.
    while consumer.poll(EVENT_WAIT).is_some() {}
}

/// Runs `close` on a thread of its own and waits for it at most `timeout`.
///
/// Destroying a librdkafka client may block without limit. One that does is left behind:
/// transactions make a hard exit safe.
pub(crate) fn close_within(
    what: &'static str,
    timeout: Duration,
    close: impl FnOnce() + Send + 'static,
) {
    let (done, closed) = crossbeam_channel::bounded(1);
    let spawned = std::thread::Builder::new()
        .name(format!("close-{what}"))
        .spawn(move || {
            close();
            let _ = done.send(()); // nobody waits any more after the deadline
        });
    match spawned {
        Ok(_) if closed.recv_timeout(timeout).is_ok() => {}
        Ok(_) => tracing::warn!(
            client = what,
            timeout_ms = timeout.as_millis() as u64,
            "the Kafka client did not close in time and is left behind"
        ),
        Err(error) => tracing::warn!(client = what, %error, "no thread to close the Kafka client"),
    }
}

/// A client that is closed with a deadline when dropped.
pub(crate) struct Closing<T: Send + 'static> {
    client: Option<T>,
    what: &'static str,
    timeout: Duration,
}

impl<T: Send + 'static> Closing<T> {
    pub(crate) fn new(client: T, what: &'static str, timeout: Duration) -> Self {
        Self {
            client: Some(client),
            what,
            timeout,
        }
    }
}

impl<T: Send + 'static> std::ops::Deref for Closing<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.client
            .as_ref()
            .expect("the client is there until drop")
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            close_within(self.what, self.timeout, move || drop(client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_classes() {
        let class = |code| match port_error("testing", &KafkaError::Global(code)) {
            PortError::Retriable(_) => "retriable",
            PortError::Fenced(_) => "fenced",
            PortError::Fatal(_) => "fatal",
            PortError::Interrupted(_) => "interrupted",
        };
        let cases = [
            (RDKafkaErrorCode::OperationTimedOut, "retriable"),
            (RDKafkaErrorCode::AllBrokersDown, "retriable"),
            (RDKafkaErrorCode::NotEnoughReplicas, "retriable"),
            (RDKafkaErrorCode::Fenced, "fenced"),
            (RDKafkaErrorCode::InvalidProducerEpoch, "fenced"),
            (RDKafkaErrorCode::UnknownTopicOrPartition, "fatal"),
            (RDKafkaErrorCode::SaslAuthenticationFailed, "fatal"),
            (RDKafkaErrorCode::AutoOffsetReset, "fatal"),
        ];
        for (code, expected) in cases {
            assert_eq!(class(code), expected, "{code:?}");
        }
    }

    #[test]
    fn a_client_that_does_not_close_is_left_behind() {
        let (release, held) = crossbeam_channel::bounded::<()>(1);
        close_within("stuck", Duration::from_millis(1), move || {
            let _ = held.recv();
        });
        drop(release);
    }
}
