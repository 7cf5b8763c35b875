//! A synthetic market with known truth, in rows of the shipped schemas.
//!
//! Every account has a hidden buying state that moves by daily hazards. Everything that a CRM would
//! see is drawn from that state: activities, content views, product usage, leads, opportunities and
//! their stages, people who change employer. The state itself never appears in a row: a model has
//! to find it.
//!
//! * [`Market`] is the world. [`Market::next_day`] lives one day and hands out the day's rows in
//!   the order in which they are known.
//! * [`Knobs`] are the world's constants, frozen under the name [`MARKET`]. They are not tuned to
//!   flatter a model, and share nothing with one. [`World`] names the control worlds, in which
//!   something that a model could use is switched off.
//! * [`bayes()`] forecasts purchases from the rows and the knobs. No forecast can do better on
//!   average.
//! * [`write_files`] writes a whole history as JSON Lines, one file a table, byte-identical for the
//!   same seed.
//!
//! The same options, knobs and seed give the same rows, on any machine and in any order of use.

mod bayes;
mod chance;
mod deals;
mod engagement;
mod error;
mod files;
mod firm;
mod knobs;
mod market;
mod mess;
mod observer;
mod people;
mod rates;
mod rows;
mod sellers;
mod state;
mod vocabulary;
mod worlds;

#[cfg(test)]
mod bayes_exact_tests;
#[cfg(test)]
mod bayes_tests;
#[cfg(test)]
mod tests;

pub use bayes::{Forecast, bayes};
pub use error::SimError;
pub use files::{KNOWN_AT, write_files};
pub use knobs::{
    Audience, CommitteeKnobs, DealKnobs, Engagement, EngagementPhase, FitKnobs, Knobs, LATEST_DAYS,
    LeadKnobs, MARKET, MessKnobs, Move, PeopleKnobs, Travellers, WaveKnobs,
};
pub use market::{Market, MarketOptions, Milestone};
pub use rows::{FieldValue, Fields, RowOut, TABLES};
pub use state::{BuyingState, Destination};
pub use worlds::World;
