//! Committed records become requests to other systems.
//!
//! A *sink* is one destination: a signed webhook, a channel of Slack, an object of Salesforce or of
//! HubSpot. [`SinkWorker`] reads one topic for one sink, sends, and commits positions after
//! success. Its `protocols` turn records into requests and answers into fates. Everything else that
//! a worker needs is a port: [`Inbox`], [`RecordReader`], [`Letters`], [`Transport`], [`Tokens`], and
//! the engine's `Clock`.
//!
//! Invariants: a position is committed only once every record before it was delivered, passed over,
//! superseded by a newer record of the same batch, or written to the dead-letter topic; a record
//! keeps its key through all tries; only an answer that no repetition can change makes a dead
//! letter; memory is bounded by one batch.
//!
//! Decision: docs/decisions/0077-processes-beside-the-worker.md

mod backoff;
mod fate;
mod http;
mod keeper;
mod metrics;
mod options;
mod ports;
mod protocols;
mod rate;
mod request;
mod spec;
mod state;
mod worker;

pub use fate::{Fate, Judgement, Later};
pub use http::{HttpTransport, OauthTokens};
pub use metrics::{DELIVER_METRICS, DeliverMetrics};
pub use options::{
    DeliverOptions, DeliverOptionsError, DigestBy, DigestOptions, HubspotOptions, Interest,
    SalesforceOptions, SlackOptions, StartAt, WebhookOptions,
};
pub use ports::{
    Arrived, Inbox, LETTER_HEADERS, Letters, ReadFailure, RecordReader, SinkLetter, Tokens,
    Transport, TransportError,
};
pub use protocols::Protocol;
pub use request::{HttpAnswer, HttpRequest, Method};
pub use spec::{FeedKind, SinkSpec};
pub use state::{DeliverHealth, SinkState};
pub use worker::{SinkParts, SinkWorker};
