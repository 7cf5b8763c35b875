//! [`Resender`]: records and marks that become visible together, under an id that only replays of dead
//! letters use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use leadpulse_engine::ports::{PortCause, PortError};

use crate::client::{ClientCallbacks, Closing, port_error, port_error_of, producer};
use crate::client_settings::ClientRole;
use crate::metrics::KafkaMetrics;
use crate::options::KafkaOptions;

const POLL_STEP: Duration = Duration::from_millis(1);

/// A record with the place that it is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressedRecord {
    /// Name of the topic.
    pub topic: String,
    /// Partition number within the topic.
    pub partition: i32,
    /// Kafka timestamp, milliseconds.
    pub timestamp_ms: i64,
    /// Key bytes; `None` is a null key.
    pub key: Option<Vec<u8>>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a value of `None` is null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl AddressedRecord {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.len() + length(value))
            .sum();
        length(&self.key) + length(&self.value) + headers
    }
}

/// A producer for one transaction. Every earlier one with the same id is fenced, and its transaction
/// has ended.
///
/// One transaction a producer, because a repeated request of a transaction may arrive late and end
/// the next one in the middle (docs/decisions/0003-a-producer-is-replaced-unless-all-was-answered.md).
pub struct Resender {
    producer: Closing<BaseProducer<ClientCallbacks>>,
    id: String,
    limit: Duration,
}

impl Resender {
    /// Takes the id of replays over.
    ///
    /// # Errors
    /// Brokers that do not answer within `kafka.request_timeout`, or refuse the id.
    pub fn take_over(
        options: &KafkaOptions,
        metrics: &Arc<KafkaMetrics>,
    ) -> Result<Self, PortError> {
        let limit = options.request_timeout();
        let producer = Closing::new(
            producer(options, ClientRole::Resender, "resender", metrics)?,
            "resender",
            options.close_timeout(),
        );
        let resender = Self {
            producer,
            id: options.replay_id(),
            limit,
        };
        resender
            .producer
            .init_transactions(limit)
            .map_err(|error| resender.failed("taking over the id of replays", &error))?;
        Ok(resender)
    }

    /// Writes the records in one transaction: all become visible, or none.
    ///
    /// # Errors
    /// A refused record: nothing is written. Another replay that took over, or brokers that do not
    /// answer: nothing or everything is written, and the next [`Self::take_over`] settles it.
    pub fn commit(self, records: &[AddressedRecord]) -> Result<(), PortError> {
        self.producer
            .begin_transaction()
            .map_err(|error| self.failed("beginning a transaction", &error))?;
        if let Err(refused) = self.deliver(records) {
            // The next producer aborts the transaction if this request does not arrive.
            if let Err(error) = self.producer.abort_transaction(self.limit) {
                tracing::warn!(%error, "a transaction of a replay is left to its time limit");
            }
            return Err(refused);
        }
        self.producer
            .commit_transaction(self.limit)
            .map_err(|error| self.failed("committing", &error))
    }

    fn deliver(&self, records: &[AddressedRecord]) -> Result<(), PortError> {
        for record in records {
            self.send(record)?;
        }
        let deadline = Instant::now() + self.limit;
        // A commit waits for delivery reports, and only a poll takes them.
        while self.producer.in_flight_count() > 0 {
            self.poll()?;
            if Instant::now() >= deadline {
                let left = self.producer.in_flight_count();
                return Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!("kafka: {left} records are not acknowledged"),
                ));
            }
        }
        self.poll()
    }

    fn send(&self, record: &AddressedRecord) -> Result<(), PortError> {
        let mut message = BaseRecord::<[u8], [u8]>::to(&record.topic)
            .partition(record.partition)
            .timestamp(record.timestamp_ms.max(1)); // librdkafka takes 0 for "now"
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (name, value) in &record.headers {
                let value = value.as_deref();
                headers = headers.insert(Header { key: name, value });
            }
            message = message.headers(headers);
        }
        while let Err((error, refused)) = self.producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let place = format!("'{}'/{}", record.topic, record.partition);
                return Err(port_error(&format!("producing to {place}"), &error));
            }
            self.poll()?;
            message = refused;
        }
        Ok(())
    }

    fn poll(&self) -> Result<(), PortError> {
        self.producer.poll(POLL_STEP);
        match self.producer.context().take_failed_delivery() {
            None => Ok(()),
            Some(error) => Err(self.failed("producing a record", &error)),
        }
    }

    fn failed(&self, doing: &str, error: &rdkafka::error::KafkaError) -> PortError {
        let access = self.producer.context().access();
        let subject = format!("transactional id '{}'", self.id);
        port_error_of(access, doing, &subject, error)
    }
}
