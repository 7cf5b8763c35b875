//! The `leadpulse` properties of a schema file, as written: the grammar of `docs/schemas.md`.
//!
//! Parsing knows nothing of other files; a misspelt property is an error here, never silently ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalog::{Feature, MatchBy, Normalise, Role, Verdict};

/// The property of a record.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableAnnotation {
    pub(crate) table: String,
    pub(crate) role: RoleName,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    pub(crate) stages: Option<StagesAnnotation>,
    pub(crate) outcome: Option<OutcomeAnnotation>,
    /// Field → values that are no engagement.
    #[serde(default)]
    pub(crate) not_engagement: BTreeMap<String, Vec<String>>,
    pub(crate) bursts: Option<BurstsAnnotation>,
    #[serde(rename = "override")]
    pub(crate) overrides: Option<OverrideAnnotation>,
    pub(crate) feedback: Option<FeedbackAnnotation>,
    pub(crate) erasure: Option<ErasureAnnotation>,
}

/// The names of the fields of a person's decision.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverrideAnnotation {
    pub(crate) decision: String,
    pub(crate) who: String,
    pub(crate) why: Option<String>,
    pub(crate) until: Option<String>,
}

/// The names of the fields of a reader's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackAnnotation {
    pub(crate) verdict: String,
    pub(crate) who: String,
    pub(crate) disposition: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) task: Option<String>,
    #[serde(rename = "type")]
    pub(crate) alert_type: Option<String>,
}

/// The events that mail scanners make in bursts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BurstsAnnotation {
    pub(crate) campaign: String,
    /// Field → values: rows with one value of each. All rows without.
    #[serde(default)]
    pub(crate) only: BTreeMap<String, Vec<String>>,
}

/// The fields of a request to erase a person.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErasureAnnotation {
    pub(crate) who: String,
    pub(crate) action: Option<String>,
    pub(crate) email: Option<String>,
}

/// The values of a field that end a deal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomeAnnotation {
    pub(crate) field: String,
    pub(crate) won: Vec<String>,
    #[serde(default)]
    pub(crate) lost: Vec<String>,
    #[serde(default)]
    pub(crate) verdict: VerdictName,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VerdictName {
    #[default]
    Last,
    First,
    Each,
}

impl From<VerdictName> for Verdict {
    fn from(name: VerdictName) -> Verdict {
        match name {
            VerdictName::Last => Verdict::Last,
            VerdictName::First => Verdict::First,
            VerdictName::Each => Verdict::Each,
        }
    }
}

/// The values of a field that are steps towards a decision.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StagesAnnotation {
    pub(crate) field: String,
    pub(crate) order: BTreeMap<String, u8>,
}

/// The property of a field.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldAnnotation {
    #[serde(default)]
    pub(crate) key: bool,
    #[serde(default)]
    pub(crate) time: bool,
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
    #[serde(default)]
    pub(crate) owner: bool,
    pub(crate) hub: Option<String>,
    pub(crate) feature: Option<FeatureName>,
    pub(crate) values: Option<Vec<String>>,
    #[serde(default, rename = "static")]
    pub(crate) is_static: bool,
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ordinal: bool,
    #[serde(default)]
    pub(crate) became: bool,
    #[serde(default)]
    pub(crate) was: bool,
    #[serde(default)]
    pub(crate) previous: bool,
    #[serde(default)]
    pub(crate) retraction: bool,
    #[serde(rename = "match")]
    pub(crate) match_by: Option<MatchName>,
    #[serde(default)]
    pub(crate) changed_fields: bool,
    #[serde(default)]
    pub(crate) label: bool,
    #[serde(default)]
    pub(crate) version: bool,
    #[serde(default)]
    pub(crate) deleted: bool,
    #[serde(default)]
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) territory: bool,
    #[serde(default)]
    pub(crate) normalise: Vec<Normalise>,
    pub(crate) currency: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    Root,
    Member,
    Hub,
    Event,
    Staff,
    Override,
    Feedback,
    Erasure,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Root => Role::Root,
            RoleName::Member => Role::Member,
            RoleName::Hub => Role::Hub,
            RoleName::Event => Role::Event,
            RoleName::Staff => Role::Staff,
            RoleName::Override => Role::Override,
            RoleName::Feedback => Role::Feedback,
            RoleName::Erasure => Role::Erasure,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FeatureName {
    None,
    Number,
    Category,
    Set,
    Text,
    Time,
}

impl From<FeatureName> for Feature {
    fn from(name: FeatureName) -> Feature {
        match name {
            FeatureName::None => Feature::None,
            FeatureName::Number => Feature::Number,
            FeatureName::Category => Feature::Category,
            FeatureName::Set => Feature::Set,
            FeatureName::Text => Feature::Text,
            FeatureName::Time => Feature::Time,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MatchName {
    Domain,
    Website,
}

impl From<MatchName> for MatchBy {
    fn from(name: MatchName) -> MatchBy {
        match name {
            MatchName::Domain => MatchBy::Domain,
            MatchName::Website => MatchBy::Website,
        }
    }
}
