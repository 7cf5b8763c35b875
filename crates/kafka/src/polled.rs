//! [`PolledProducer`]: a librdkafka producer and the one thread that polls it.
//!
//! Delivery reports, errors and log lines come through one queue, in order, to the thread that
//! polls. One thread polls, so that [`RequestLedger`] sees the lines in order. The thread blocks in
//! librdkafka, since `BaseProducer::poll` with less than 1 ms left passes 0 to librdkafka and spins
//! (47 % of the engine thread's samples at 500 records/s, measured). The callbacks count deliveries
//! down and wake a waiting thread at zero.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use leadpulse_engine::ports::{OutputRecord, PortCause, PortError};

use crate::access::Access;
use crate::client::{count_error, log_line, report_error};
use crate::metrics::KafkaMetrics;
use crate::requests::RequestLedger;

/// Longest wait of one poll. Within this time the thread notices that the producer is given up.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Longest wait for room in librdkafka's queue before another try.
const ROOM_WAIT: Duration = Duration::from_millis(5);
/// Pause between two looks at whether librdkafka has counted a delivery that its callback reported
/// already: microseconds, normally.
const COUNT_WAIT: Duration = Duration::from_micros(50);

/// Next offsets of the topics that producers wrote to, behind what was delivered.
#[derive(Debug, Default)]
pub(crate) struct Delivered(Mutex<Vec<(String, Vec<i64>)>>);

impl Delivered {
    fn note(&self, topic: &str, partition: i32, offset: i64) {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = topics.iter().position(|(name, _)| name == topic);
        let at = at.unwrap_or_else(|| {
            topics.push((topic.to_owned(), Vec::new()));
            topics.len() - 1
        });
        let nexts = &mut topics[at].1;
        let partition = usize::try_from(partition).unwrap_or(0);
        if nexts.len() <= partition {
            nexts.resize(partition + 1, 0);
        }
        nexts[partition] = nexts[partition].max(offset + 1);
    }

    /// The next offsets of a topic's partitions, by number; 0 where nothing was delivered.
    pub(crate) fn nexts(&self, topic: &str) -> Vec<i64> {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = topics.iter().find(|(name, _)| name == topic);
        found.map(|(_, nexts)| nexts.clone()).unwrap_or_default()
    }
}

/// A record that librdkafka or a broker refused.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRecord {
    /// Index of the record, as given to [`PolledProducer::send`].
    pub(crate) record: usize,
    pub(crate) error: KafkaError,
}

/// Counts and wake-ups that the callbacks share with the threads that use a producer.
#[derive(Default)]
pub(crate) struct Signals {
    outstanding: AtomicUsize,
    progress: AtomicU64,
    refusals: Mutex<Vec<RefusedRecord>>,
    pub(crate) ledger: RequestLedger,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signals {
    /// A number that rises with every delivery report and every [`Self::advance`].
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Counts a completed step as progress.
    pub(crate) fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// True once every record sent has a delivery report, or one record was refused.
    pub(crate) fn is_decided(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0 || self.is_refused()
    }

    /// True once a record was refused.
    pub(crate) fn is_refused(&self) -> bool {
        !self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Records refused since the last call.
    pub(crate) fn take_refusals(&self) -> Vec<RefusedRecord> {
        std::mem::take(&mut self.refusals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `reached` holds, at most `limit`; false after the limit. Looks again when all
    /// records are acknowledged, when one is refused, and when a transactional request is answered.
    pub(crate) fn wait(&self, limit: Duration, reached: impl Fn(&Self) -> bool) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(guard, limit, |()| !reached(self));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn wake(&self) {
        // Without the lock a waiter could have checked its condition and not be asleep yet: the
        // wake-up would be lost.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn refuse(&self, refusal: RefusedRecord) {
        self.refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(refusal);
    }
}

/// Debug lines of librdkafka that are passed on to this program's log. The sink's producer always
/// produces the protocol lines, for the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DebugLines {
    /// True to pass on lines about single requests.
    pub(crate) protocol: bool,
    /// True to pass on all other debug lines.
    pub(crate) others: bool,
}

/// Settings of a polled producer.
pub(crate) struct PolledSettings<'a> {
    pub(crate) config: &'a ClientConfig,
    pub(crate) debug: DebugLines,
    /// The identity that the producer shows.
    pub(crate) access: &'a Arc<Access>,
    /// Where delivered records are noted.
    pub(crate) delivered: &'a Arc<Delivered>,
}

/// Callbacks of a polled producer, which librdkafka calls on the polling thread.
pub(crate) struct PolledContext {
    name: &'static str,
    metrics: Arc<KafkaMetrics>,
    debug: DebugLines,
    signals: Arc<Signals>,
    access: Arc<Access>,
    delivered: Arc<Delivered>,
}

impl ClientContext for PolledContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Ok(self.access.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if self.signals.ledger.note(facility, line) {
            self.signals.wake();
        }
        let passes = match (level, facility) {
            (RDKafkaLogLevel::Debug, "SEND" | "RECV") => self.debug.protocol,
            (RDKafkaLogLevel::Debug, _) => self.debug.others,
            _ => true,
        };
        if passes {
            log_line(self.name, level, facility, line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = count_error(&self.metrics, self.name, &error);
        report_error(&self.access, self.name, code, reason);
    }
}

impl ProducerContext for PolledContext {
    /// Index of the record, as given to [`PolledProducer::send`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                self.delivered.note(message.topic(), partition, offset);
            }
            Err((error, _)) => {
                count_error(&self.metrics, self.name, error);
                self.signals.refuse(RefusedRecord {
                    record,
                    error: error.clone(),
                });
                self.signals.wake();
            }
        }
        self.signals.advance();
        if self.signals.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.signals.wake();
        }
    }
}

/// The reason why a record was not queued.
pub(crate) enum SendError {
    /// librdkafka refused the record.
    Refused(KafkaError),
    /// The caller gave up while the queue was full.
    GivenUp,
}

/// A producer, the thread that polls it, and its signals. A drop ends the thread first. The end of
/// the thread and librdkafka's own closing may block.
pub(crate) struct PolledProducer {
    producer: Arc<BaseProducer<PolledContext>>,
    signals: Arc<Signals>,
    ending: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
}

impl PolledProducer {
    /// Creates the client and the polling thread. Nothing is sent yet.
    pub(crate) fn start(
        settings: PolledSettings<'_>,
        name: &'static str,
        metrics: &Arc<KafkaMetrics>,
        signals: &Arc<Signals>,
    ) -> Result<Self, PortError> {
        let failed = |why: String| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: the client '{name}' cannot be created: {why}"),
            )
        };
        let context = PolledContext {
            name,
            metrics: Arc::clone(metrics),
            debug: settings.debug,
            signals: Arc::clone(signals),
            access: Arc::clone(settings.access),
            delivered: Arc::clone(settings.delivered),
        };
        let producer: BaseProducer<PolledContext> = settings
            .config
            .create_with_context(context)
            .map_err(|error| failed(error.to_string()))?;
        let (producer, ending) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let (polled, end) = (Arc::clone(&producer), Arc::clone(&ending));
        let poll = move || {
            while !end.load(Ordering::Relaxed) {
                polled.poll(POLL_WAIT);
            }
        };
        let poller = std::thread::Builder::new()
            .name(format!("kafka-{name}-poll"))
            .spawn(poll)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            producer,
            signals: Arc::clone(signals),
            ending,
            poller: Some(poller),
        })
    }

    pub(crate) fn client(&self) -> &BaseProducer<PolledContext> {
        &self.producer
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Queues a record under an index that the delivery report will carry. Waits while librdkafka's
    /// queue is full, until `given_up`.
    pub(crate) fn send(
        &self,
        topic: &str,
        index: usize,
        record: &OutputRecord,
        given_up: &dyn Fn() -> bool,
    ) -> Result<(), SendError> {
        let mut message = to_message(topic, index, record);
        loop {
            self.signals.outstanding.fetch_add(1, Ordering::AcqRel);
            let Err((error, refused)) = self.producer.send(message) else {
                return Ok(());
            };
            let others = self.signals.outstanding.fetch_sub(1, Ordering::AcqRel) - 1;
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(SendError::Refused(error));
            }
            if others == 0 && self.producer.flush(Duration::ZERO).is_ok() {
                // The queue is empty: this record alone is larger than the whole queue.
                return Err(SendError::Refused(KafkaError::MessageProduction(
                    RDKafkaErrorCode::MessageSizeTooLarge,
                )));
            }
            if given_up() {
                return Err(SendError::GivenUp);
            }
            self.signals.wait(ROOM_WAIT, Signals::is_refused);
            message = refused;
        }
    }

    /// Waits until every record has a delivery report or one was refused. False if `given_up` came
    /// first.
    pub(crate) fn wait_for_deliveries(&self, given_up: &dyn Fn() -> bool) -> bool {
        while !self.signals.wait(POLL_WAIT, Signals::is_decided) {
            if given_up() {
                return false;
            }
        }
        // librdkafka counts a message as delivered when its report is freed, just after the
        // callback. `commit_transaction` calls `BaseProducer::flush` with records in flight, which
        // polls in steps of 100 ms and does not return early: a commit of one record takes 103 ms
        // instead of 3.6 ms (measured).
        while !self.signals.is_refused() && self.producer.flush(Duration::ZERO).is_err() {
            if given_up() {
                return false;
            }
            std::thread::sleep(COUNT_WAIT);
        }
        true
    }
}

impl Drop for PolledProducer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(poller) = self.poller.take() {
            let _ = poller.join(); // a panic in a callback is in the log already
        }
    }
}

fn to_message<'a>(
    topic: &'a str,
    index: usize,
    record: &'a OutputRecord,
) -> BaseRecord<'a, [u8], [u8], usize> {
    // Kafka has no timestamps before 1970, and librdkafka takes 0 for "now", which would differ
    // when the record is sent again.
    let mut message =
        BaseRecord::with_opaque_to(topic, index).timestamp(record.timestamp_ms.max(1));
    if let Some(key) = &record.key {
        message = message.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        message = message.payload(value.as_slice());
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let insert = |headers: OwnedHeaders, (name, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header {
                key: name,
                value: value.as_ref(),
            })
        };
        message = message.headers(record.headers.iter().fold(headers, insert));
    }
    message
}
