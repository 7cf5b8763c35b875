//! The facts about an entity's account that alerts are decided by: plain data, read from state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The meaning of tables and fields for alerts, as far as schemas do not declare it. Names are
/// checked against the schemas at start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FactOptions {
    /// Event tables of the use of the product.
    pub usage: Vec<String>,
    /// Event table → declared kinds of events that report a reached limit.
    pub limits: BTreeMap<String, Vec<String>>,
    /// Truth values of accounts and members that forbid contact, as `table.field`.
    pub do_not_contact: Vec<String>,
}

/// The facts about the account of an entity at a moment, cheap enough for every observation.
///
/// Facts that the tables cannot tell are `None`, and hold nothing back. The default is an account
/// about which nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertFacts {
    /// Key of the account; of the entity itself where it belongs to none.
    pub account: String,
    /// Mail or web domain of the account.
    pub domain: Option<String>,
    /// Key of the person of the own company whom alerts about the entity are for.
    pub owner: Option<String>,
    /// People of the account with an event in the last 14 days; `None` where no table has people.
    pub active_people: Option<u32>,
    /// Different kinds of events in the last 14 days; `None` where the tables have one kind only.
    pub active_kinds: Option<u32>,
    /// Newest event of the account, milliseconds.
    pub newest_event_ms: Option<i64>,
    /// Category field → different values among the active people.
    pub by_field: BTreeMap<String, Vec<String>>,
    /// Ordered field → the values up to the highest one among the active people.
    pub reached: BTreeMap<String, BTreeSet<String>>,
    /// Pace of all engagement.
    pub engagement: Option<Pace>,
    /// Pace of events of the usage tables.
    pub usage: Option<Pace>,
    /// Newest event that reports a reached limit, milliseconds.
    pub limit_ms: Option<i64>,
    /// Usual time between two days with events, milliseconds; `None` before the third such day.
    pub usual_gap_ms: Option<i64>,
    /// Deals that are neither won nor lost.
    pub open_deals: Vec<OpenDeal>,
    /// True if the account has a won deal.
    pub is_customer: bool,
    /// True if the entity, or its account, must not be contacted.
    pub do_not_contact: bool,
    /// Newest lost deal of the account, milliseconds.
    pub lost_ms: Option<i64>,
    /// Active people with a value in the top quarter of an ordered field, most recent start first.
    pub executives: Vec<Arrival>,
    /// Active people who belonged to another account before, most recent start first.
    pub from_elsewhere: Vec<Arrival>,
    /// Closings among the accounts that share a hub with this one.
    pub peers: Option<PeerClosings>,
    /// Events by kind, each weighing less with its age, and open deals: name in words → number.
    // Shared, because a memory of eight days is copied at every tick that touches an entity.
    pub counts: Arc<BTreeMap<String, f64>>,
}

/// Events of a week beside the usual number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Events in about the last 7 days.
    pub week: f64,
    /// Events of the account in a usual week before.
    pub usual_week: f64,
}

/// A deal that is neither won nor lost.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenDeal {
    /// Key of the deal.
    pub key: String,
    /// Amount in the currency of the graph; `None` without one.
    pub amount: Option<f64>,
    /// Key of the person whom the deal is assigned to.
    pub owner: Option<String>,
}

/// A person who appeared at the account.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Key of the person.
    pub key: String,
    /// Key of the account before; `None` for a person who is new.
    pub from: Option<String>,
    /// The first event of the person at the account, milliseconds.
    pub at_ms: i64,
}

/// Closings among peers.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerClosings {
    /// Name of the hub that the peers share, such as an industry.
    pub hub: String,
    /// Peers that closed, about; the account itself is not among them.
    pub closed: f64,
    /// Number of peers.
    pub of: u32,
    /// Span of the closings, days.
    pub within_days: u32,
}

impl AlertFacts {
    /// The sum of the amounts of open deals; 0 without any.
    pub fn value_at_stake(&self) -> f64 {
        self.open_deals.iter().filter_map(|deal| deal.amount).sum()
    }

    /// Time since the newest event at a moment, milliseconds; `None` before the first event.
    pub fn silent_ms(&self, now_ms: i64) -> Option<i64> {
        self.newest_event_ms
            .map(|newest_ms| now_ms.saturating_sub(newest_ms).max(0))
    }

    /// True if an open deal is assigned to another person than the account's alerts are for.
    pub fn has_deal_of_another_owner(&self) -> bool {
        let is_another = |deal: &OpenDeal| {
            let both = deal.owner.as_ref().zip(self.owner.as_ref());
            both.is_some_and(|(deal, own)| deal != own)
        };
        self.open_deals.iter().any(is_another)
    }
}
