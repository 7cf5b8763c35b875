//! A synthetic B2B market with known truth becomes rows of the shipped schemas; load generator.
//!
//! Every account has a hidden buying state that moves by daily hazards; everything a CRM would see (activities, content views,
//! product usage, leads, opportunities and their stages, people who change employer) is drawn from it. What drives a purchase never
//! appears in a row: a model has to find it.
//!
//! * [`Market`] is the world: [`Market::next_day`] lives one day and hands out its rows in time order.
//! * [`Knobs`] are the world's constants. They are frozen: nobody tunes them to flatter a model, and they share nothing with one.
//! * [`write_files`] writes a whole history as JSON Lines, one file a table, byte-identical for the same seed.
//!
//! The same options, knobs and seed give the same rows, on any machine and in any order of use.

mod chance;
mod deals;
mod engagement;
mod error;
mod files;
mod firm;
mod knobs;
mod market;
mod people;
mod rows;
mod state;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use error::SimError;
pub use files::write_files;
pub use knobs::{Audience, DealKnobs, Engagement, FitKnobs, Knobs, LeadKnobs, Move, PeopleKnobs};
pub use market::{Market, MarketOptions};
pub use rows::{RowOut, TABLES};
pub use state::{BuyingState, Destination};
