//! The port to the planner of queries: the meaning of a text, or its fault.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A query that can be planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedQuery {
    /// The query with named targets written out, names as the schemas spell them.
    pub text: String,
    /// Table whose rows are scored.
    pub entity: String,
    /// A label is known at most this long after its anchor, milliseconds.
    pub horizon_ms: i64,
    /// The plan in words, a line each.
    pub meaning: Vec<String>,
    /// Remarks on what is probably not meant; empty for most queries.
    pub remarks: Vec<QueryRemark>,
}

/// A remark on a query that has a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryRemark {
    /// The query's meaning, in words.
    pub message: String,
    /// The query to write instead, if that is not meant.
    pub hint: String,
}

/// A fault of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryFault {
    /// The fault and its reason.
    pub message: String,
    /// The correction; empty where there is none to propose.
    pub hint: String,
    /// Line of the first wrong character, from 1.
    pub line: u32,
    /// Column of the first wrong character, from 1.
    pub column: u32,
    /// Wrong characters; 0 at the end of the text.
    pub length: usize,
    /// The named target whose text the place is in; `None` for the query itself.
    pub target: Option<NamedText>,
}

/// A named target of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedText {
    /// Name in the configuration.
    pub name: String,
    /// The text in PQL.
    pub text: String,
}

/// A planner of queries. It reads schemas and configuration, and no data.
pub trait QueryPlanner: Send + Sync {
    /// Plans a query under the schemas and named targets of the deployment. Takes milliseconds.
    ///
    /// # Errors
    /// The first fault of the text.
    fn plan(&self, text: &str) -> Result<PlannedQuery, Box<QueryFault>>;
}

/// The planner of a process. Cheap to clone.
#[derive(Clone)]
pub struct QueryDesk(pub Arc<dyn QueryPlanner>);

impl fmt::Debug for QueryDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryDesk")
    }
}
