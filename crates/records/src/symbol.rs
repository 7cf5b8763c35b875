//! Enum symbols and alert types by name: text that is known when the program is built.

use serde::{Deserialize, Serialize};

/// A symbol of an Avro enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol(pub &'static str);

impl Default for Symbol {
    /// The symbol that every enum of the output schemas has.
    fn default() -> Self {
        Self("unknown")
    }
}

impl Serialize for Symbol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The Avro writer finds the index by the name, so the one given here is not used.
        serializer.serialize_unit_variant("Symbol", 0, self.0)
    }
}

/// Symbols of all output schemas: a [`Symbol`] reads back as one of these.
const SYMBOLS: [&str; 31] = [
    "scored",
    "ineligible",
    "improving",
    "steady",
    "declining",
    "unknown",
    "closing",
    "event",
    "bundle_swap",
    "timer",
    "board",
    "P1",
    "P2",
    "P3",
    "open",
    "updated",
    "resolved",
    "suppressed",
    "threshold_up",
    "threshold_down",
    "new_executive",
    "committee_formed",
    "engagement_spike",
    "usage_spike",
    "usage_limit",
    "going_dark",
    "champion_moved",
    "re_engaged_after_loss",
    "peer_wave",
    "digest",
    "",
];

/// An alert type. Text in records, so that a new type needs no new schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeName(pub &'static str);

impl Serialize for TypeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}

/// Finds the static symbol that a text equals.
fn symbol<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = SYMBOLS.iter().find(|symbol| **symbol == text);
    found
        .copied()
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a symbol of any output")))
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        symbol(deserializer).map(Self)
    }
}
