//! [`Producer`]: plain idempotent producing, for files replayed into topics and simulated producers.

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
/// Records between two looks at the delivery reports.
const POLL_EVERY: u32 = 256;

/// Produces records in the order of the calls. A call waits while librdkafka's queue is full.
pub struct Producer {
    producer: Closing<BaseProducer<ClientCallbacks>>,
    since_poll: u32,
}

impl Producer {
    /// A producer that connects when the first record is sent.
    pub fn connect(options: &KafkaOptions, metrics: &Arc<KafkaMetrics>) -> Result<Self, PortError> {
        let producer = Closing::new(
            producer(options, ClientRole::Producer, "producer", metrics)?,
            "producer",
            options.close_timeout(),
        );
        Ok(Self {
            producer,
            since_poll: 0,
        })
    }

    /// Queues a record. `value: None` is a tombstone; `timestamp_ms` is the Kafka timestamp.
    ///
    /// # Errors
    /// The first failed delivery, which may be that of an earlier record.
    pub fn send(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
    ) -> Result<(), PortError> {
        self.send_with_headers(topic, key, value, &[], timestamp_ms)
    }

    /// Queues a record with headers, in order; a value of `None` is null. Else like [`Self::send`].
    pub fn send_with_headers(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp_ms: i64,
    ) -> Result<(), PortError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).timestamp(timestamp_ms.max(1)); // librdkafka takes 0 for "now"
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            let owned = OwnedHeaders::new_with_capacity(headers.len());
            let insert = |owned: OwnedHeaders, (name, value): &(&str, Option<&[u8]>)| {
                owned.insert(Header {
                    key: name,
                    value: *value,
                })
            };
            record = record.headers(headers.iter().fold(owned, insert));
        }
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(port_error(&format!("producing to '{topic}'"), &error));
            }
            self.poll(POLL_STEP)?;
            record = refused;
        }
        self.since_poll += 1;
        if self.since_poll == POLL_EVERY {
            self.poll(Duration::ZERO)
        } else {
            Ok(())
        }
    }

    /// Waits until every queued record is acknowledged, at most `limit`.
    pub fn flush(&mut self, limit: Duration) -> Result<(), PortError> {
        let deadline = Instant::now() + limit;
        while self.producer.in_flight_count() > 0 {
            self.poll(POLL_STEP)?;
            if Instant::now() >= deadline {
                let left = self.producer.in_flight_count();
                return Err(PortError::retriable(
                    PortCause::NoAnswer,
                    format!(
                        "kafka: {left} records are not acknowledged within {} ms",
                        limit.as_millis()
                    ),
                ));
            }
        }
        self.poll(Duration::ZERO)
    }

    fn poll(&mut self, wait: Duration) -> Result<(), PortError> {
        self.since_poll = 0;
        self.producer.poll(wait);
        match self.producer.context().take_failed_delivery() {
            None => Ok(()),
            Some(error) => {
                let access = self.producer.context().access();
                let doing = "producing a record";
                Err(port_error_of(access, doing, "an input topic", &error))
            }
        }
    }
}
