//! The ledger of transactional requests: how many were written to a connection, and how many of
//! those were answered.
//!
//! librdkafka repeats a request on another connection when the first one breaks or is slow. The
//! copy that was written first may still lie in the network. The copy carries the same producer
//! epoch as every later transaction of this producer, so a broker that receives it late obeys. A
//! late EndTxn commits half of the next transaction, and a late TxnOffsetCommit takes the group's
//! positions back
//! ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense),
//! which librdkafka lacks: [5423](https://github.com/confluentinc/librdkafka/issues/5423)).
//!
//! No API of librdkafka reports a repeated request, but the protocol log does. A request that was
//! written in full gives the line "Sent EndTxnRequest (…)", and an answer gives "Received
//! EndTxnResponse (…)". Where both counts are equal, no copy is under way. Statistics were
//! rejected: they come on a timer, so each transaction would wait for one. Error events were
//! rejected too: librdkafka suppresses those that repeat
//! (docs/decisions/0003-a-producer-is-replaced-unless-all-was-answered.md).

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that change a transaction or its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionalApi {
    Produce,
    AddPartitionsToTxn,
    AddOffsetsToTxn,
    TxnOffsetCommit,
    EndTxn,
}

impl TransactionalApi {
    const ALL: [Self; 5] = [
        Self::Produce,
        Self::AddPartitionsToTxn,
        Self::AddOffsetsToTxn,
        Self::TxnOffsetCommit,
        Self::EndTxn,
    ];

    /// The name in librdkafka's log lines (`rd_kafka_ApiKey2str`).
    fn name(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::AddPartitionsToTxn => "AddPartitionsToTxn",
            Self::AddOffsetsToTxn => "AddOffsetsToTxn",
            Self::TxnOffsetCommit => "TxnOffsetCommit",
            Self::EndTxn => "EndTxn",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.name() == name)
    }
}

/// An event that a protocol log line reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A request was written to a connection in full.
    Sent(TransactionalApi),
    /// The answer to a request was read.
    Answered(TransactionalApi),
}

/// Reads a log line of librdkafka 2.12
/// ([`rdkafka_broker.c`](https://github.com/confluentinc/librdkafka/blob/v2.12.1/src/rdkafka_broker.c)).
/// `None` for other lines. Those include requests written in part, which a broker ignores.
fn read_line(facility: &str, line: &str) -> Option<Event> {
    let between = |before: &str, after: &str| {
        let (_, rest) = line.rsplit_once(before)?;
        let (name, _) = rest.split_once(after)?;
        TransactionalApi::of(name)
    };
    match facility {
        "SEND" => between(": Sent ", "Request (").map(Event::Sent),
        "RECV" => between(": Received ", "Response (").map(Event::Answered),
        _ => None,
    }
}

/// Counts of one producer's transactional requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLedger {
    sent: [AtomicU64; 5],
    answered: [AtomicU64; 5],
}

impl RequestLedger {
    /// Counts a log line. True for a line about a transactional request.
    pub(crate) fn note(&self, facility: &str, line: &str) -> bool {
        let counter = match read_line(facility, line) {
            Some(Event::Sent(api)) => &self.sent[api as usize],
            Some(Event::Answered(api)) => &self.answered[api as usize],
            None => return false,
        };
        counter.fetch_add(1, Ordering::Release);
        true
    }

    /// Number of answers to EndTxn requests that were read.
    pub(crate) fn ended_transactions(&self) -> u64 {
        self.answered[TransactionalApi::EndTxn as usize].load(Ordering::Acquire)
    }

    /// True if every request that was written was answered.
    pub(crate) fn is_balanced(&self) -> bool {
        // Answers first: a request that is written in between makes the ledger look unbalanced,
        // never balanced.
        let answered = self
            .answered
            .each_ref()
            .map(|count| count.load(Ordering::Acquire));
        let sent = self
            .sent
            .each_ref()
            .map(|count| count.load(Ordering::Acquire));
        sent == answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Sent EndTxnRequest (v1, 54 bytes @ 0, CorrId 9)";
    const ANSWERED: &str = "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Received EndTxnResponse (v1, 6 bytes, CorrId 9, rtt 1.42ms)";

    #[test]
    fn log_lines_of_transactional_requests_are_read() {
        let cases = [
            ("SEND", SENT, Some(Event::Sent(TransactionalApi::EndTxn))),
            (
                "RECV",
                ANSWERED,
                Some(Event::Answered(TransactionalApi::EndTxn)),
            ),
            (
                "SEND",
                "b:1/1: Sent ProduceRequest (v9, 5 bytes @ 0, CorrId 1)",
                Some(Event::Sent(TransactionalApi::Produce)),
            ),
            (
                "RECV",
                "b:1/1: Received TxnOffsetCommitResponse (v3, 1 bytes",
                Some(Event::Answered(TransactionalApi::TxnOffsetCommit)),
            ),
            (
                "SEND",
                "b:1/1: Sent partial EndTxnRequest (v1, 0+10/54 bytes, CorrId 9)",
                None,
            ),
            (
                "SEND",
                "b:1/1: Sent MetadataRequest (v12, 5 bytes @ 0, CorrId 1)",
                None,
            ),
            ("RECV", SENT, None),
            ("REQTMOUT", SENT, None),
            ("SEND", "b:1/1: Sent EndTxn", None),
        ];
        for (facility, line, expected) in cases {
            assert_eq!(read_line(facility, line), expected, "{facility} {line}");
        }
    }

    #[test]
    fn a_repeated_request_leaves_the_ledger_unbalanced() {
        let ledger = RequestLedger::default();
        assert!(ledger.is_balanced());
        ledger.note("SEND", SENT);
        assert!(!ledger.is_balanced());
        ledger.note("RECV", ANSWERED);
        assert!(ledger.is_balanced());
        assert_eq!(ledger.ended_transactions(), 1);
        for (facility, line) in [("SEND", SENT), ("SEND", SENT), ("RECV", ANSWERED)] {
            ledger.note(facility, line);
        }
        assert!(!ledger.is_balanced(), "one of two copies was answered");
    }

    #[test]
    fn every_api_has_its_own_counter() {
        let ledger = RequestLedger::default();
        for api in TransactionalApi::ALL {
            ledger.note("SEND", &format!("b: Sent {}Request (v1", api.name()));
        }
        assert!(
            ledger
                .sent
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 1)
        );
    }
}
