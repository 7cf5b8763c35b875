//! Requests to a running server over real connections.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

mod alerts;
mod caching;
mod console;
mod dead_letters;
mod document;
mod entity;
mod events;
mod explanation;
mod guard;
mod history_jobs;
mod hostile;
mod json_schema;
mod operations;
mod process;
mod query;
mod refusals;
mod said;
mod scores;
mod support;
mod trace;
mod vocabulary;
mod what_if;
