//! [`AcknowledgedProducer`]: records with a fate each, for callers that answer somebody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};

use leadpulse_engine::ports::{PortCause, PortError};

use crate::client::{ClientCallbacks, is_too_large};
use crate::client_settings::ClientRole;
use crate::metrics::KafkaMetrics;
use crate::options::KafkaOptions;

/// KiB of records that wait for brokers, unless the configuration names another limit.
const WAITING_KIB: &str = "65536";
const WAITING_SETTING: &str = "producer.queue.buffering.max.kbytes";

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct PlainRecord<'r> {
    /// Topic.
    pub topic: &'r str,
    /// Key, which decides the partition; `None` for any.
    pub key: Option<&'r [u8]>,
    /// Value.
    pub value: &'r [u8],
}

/// The fate of a record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFate {
    /// All replicas in sync have it.
    Stored {
        /// Partition number.
        partition: i32,
        /// Offset in the partition.
        offset: i64,
    },
    /// It was not sent: too many records wait for brokers.
    Full,
    /// It may be stored, now or later; in words.
    Unknown(String),
    /// It can never be stored; in words.
    Refused(String),
}

/// The way back from a delivery report to whoever waits for it.
struct Ticket {
    index: usize,
    fates: Sender<(usize, RecordFate)>,
}

/// Callbacks of the producer.
struct TicketContext(ClientCallbacks);

impl ClientContext for TicketContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        given: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.generate_oauth_token(given)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for TicketContext {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let fate = match result {
            Ok(message) => RecordFate::Stored {
                partition: message.partition(),
                offset: message.offset(),
            },
            Err((error, _)) => fate_of(error),
        };
        // Nobody waits any more after the limit.
        let _ = ticket.fates.send((ticket.index, fate));
    }
}

fn fate_of(error: &KafkaError) -> RecordFate {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => RecordFate::Full,
        Some(code) if is_too_large(code) => {
            RecordFate::Refused("it is larger than the topic allows".to_owned())
        }
        _ => RecordFate::Unknown(error.to_string()),
    }
}

/// An idempotent producer that many threads use at once.
pub struct AcknowledgedProducer {
    producer: ThreadedProducer<TicketContext>,
}

impl AcknowledgedProducer {
    /// A producer that connects when the first record is sent.
    ///
    /// # Errors
    /// A client that cannot be created.
    pub fn connect(options: &KafkaOptions, metrics: &Arc<KafkaMetrics>) -> Result<Self, PortError> {
        let mut options = options.clone();
        let waiting = options.client.entry(WAITING_SETTING.to_owned());
        waiting.or_insert_with(|| WAITING_KIB.to_owned());
        let callbacks = ClientCallbacks::new("acknowledged", &options, Some(metrics));
        let created = options
            .client_config(ClientRole::Producer)
            .create_with_context(TicketContext(callbacks));
        let producer = created.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: the client 'acknowledged' cannot be created: {error}"),
            )
        })?;
        Ok(Self { producer })
    }

    /// Sends records and waits for the fate of each, at most `limit`. After a record for which there
    /// is no room none is sent, so that those that are keep their order.
    pub fn send(&self, records: &[PlainRecord<'_>], limit: Duration) -> Vec<RecordFate> {
        let until = Instant::now() + limit;
        let late = format!("no acknowledgement within {} ms", limit.as_millis());
        let mut fates = vec![RecordFate::Unknown(late); records.len()];
        let (sender, receiver) = unbounded();
        let mut waiting = 0;
        for (index, record) in records.iter().enumerate() {
            let ticket = Box::new(Ticket {
                index,
                fates: sender.clone(),
            });
            let mut message: BaseRecord<'_, [u8], [u8], Box<Ticket>> =
                BaseRecord::with_opaque_to(record.topic, ticket).payload(record.value);
            message.key = record.key;
            match self.producer.send(message) {
                Ok(()) => waiting += 1,
                Err((error, _)) => {
                    let fate = fate_of(&error);
                    if fate == RecordFate::Full {
                        fates[index..].fill(RecordFate::Full);
                        break;
                    }
                    fates[index] = fate;
                }
            }
        }
        while waiting > 0 {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((index, fate)) = receiver.recv_timeout(left) else {
                break;
            };
            fates[index] = fate;
            waiting -= 1;
        }
        fates
    }
}
