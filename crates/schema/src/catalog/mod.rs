//! Schema files become a catalog: tables with roles, fields with types, references, hubs.

mod annotations;
mod check;
mod fault;
pub(crate) mod fingerprint;
mod link;
pub(crate) mod load;
#[cfg(test)]
mod load_tests;
pub(crate) mod normalise;
pub(crate) mod shape;
mod tables;

pub use fault::SchemaFault;
pub use normalise::Normalise;
pub use tables::{
    Bursting, Catalog, DataType, ErasureFields, Feature, FeedbackFields, Field, FieldId, Hub,
    HubId, MatchBy, Meaning, OutcomeField, OverrideFields, Reference, Relation, RelationId,
    RelationKind, Role, Staged, Table, TableId, Verdict,
};
