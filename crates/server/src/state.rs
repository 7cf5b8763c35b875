//! The server's sources: read model, metrics, tasks.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use leadpulse_engine::explain::ExplainDesk;
use leadpulse_engine::ports::SchemaStore;
use leadpulse_engine::questions::QuestionDesk;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_schema::Catalog;
use prometheus::Registry;
use serde::Serialize;

use crate::archive::ArchiveDesk;
use crate::history_jobs::HistoryDesk;
use crate::operations::OperationsDesk;
use crate::queries::QueryDesk;

/// Sources of all answers. Given once, at start.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// The committed scores, alerts and status.
    pub read_model: Arc<ReadModel>,
    /// Metrics of the whole process; the server adds its own.
    pub registry: Registry,
    /// Tasks in the order of the configuration; the console opens with the first.
    pub tasks: TaskViews,
    /// Names of the entity tables, for `/api/v1/{table}/{id}`.
    pub tables: Vec<String>,
    /// The tables, whose keys are looked for in their one spelling; without them, as written.
    pub catalog: Option<Arc<Catalog>>,
    /// Desk for requests of explanations; without one, scores have only the explanations of their
    /// records.
    pub explanations: Option<ExplainDesk>,
    /// Desk for questions to the machine; without one, they are refused.
    pub questions: Option<QuestionDesk>,
    /// Jobs on the files of a past; `None` for a process without any.
    pub history: Option<HistoryDesk>,
    /// Scores older than those of the read model; without an archive, they are refused.
    pub archive: Option<ArchiveDesk>,
    /// Operations of the deployment; without them, they are refused.
    pub operations: Option<OperationsDesk>,
    /// Planner of queries; without one, they are refused.
    pub queries: Option<QueryDesk>,
    /// Writer schemas, to look into dead letters; without them, Avro is shown as bytes.
    pub schemas: Option<WriterSchemas>,
    /// Version of the program.
    pub version: String,
}

impl ServerState {
    /// An entity's key as rows of its table have it.
    pub(crate) fn key(&self, table: &str, key: String) -> String {
        let known = self.catalog.as_ref();
        let Some((catalog, table)) = known.and_then(|c| Some((c, c.table(table)?))) else {
            return key;
        };
        catalog.normalised_key(table.id, &key).into_owned()
    }

    /// Name of the table of accounts; `None` where the tables are not known.
    pub(crate) fn root_table(&self) -> Option<String> {
        let catalog = self.catalog.as_ref()?;
        Some(catalog.root().name.clone())
    }

    /// Fields of an account that name the person it is assigned to, the first that has one counts.
    pub(crate) fn owner_fields(&self) -> Vec<String> {
        let mut fields = Vec::new();
        if let Some(catalog) = &self.catalog {
            let assignments = catalog.assignments(catalog.root());
            fields.extend(assignments.map(|(field, _)| field.name.clone()));
        }
        if fields.is_empty() {
            fields.push("owner_id".to_owned());
        }
        fields
    }
}

/// The tasks and the model that score now. A swap replaces them; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct TaskViews(Arc<ArcSwap<ShownVersion>>);

#[derive(Debug, Default)]
struct ShownVersion {
    tasks: Arc<Vec<TaskView>>,
    model: Arc<serde_json::Value>,
}

impl TaskViews {
    /// Shows these tasks, and the card of the model that scores them.
    pub fn new(tasks: Vec<TaskView>, model: serde_json::Value) -> Self {
        let views = Self::default();
        views.replace(tasks, model);
        views
    }

    /// The tasks, in the order of the configuration.
    pub fn now(&self) -> Arc<Vec<TaskView>> {
        self.0.load().tasks.clone()
    }

    /// The card of the model; null for a model without one.
    pub fn model(&self) -> Arc<serde_json::Value> {
        self.0.load().model.clone()
    }

    /// Shows other tasks, and the card of another model, from now on.
    pub fn replace(&self, tasks: Vec<TaskView>, model: serde_json::Value) {
        self.0.store(Arc::new(ShownVersion {
            tasks: Arc::new(tasks),
            model: Arc::new(model),
        }));
    }
}

impl From<Vec<TaskView>> for TaskViews {
    fn from(tasks: Vec<TaskView>) -> Self {
        Self::new(tasks, serde_json::Value::Null)
    }
}

/// The store of writer schemas, asked without waiting.
#[derive(Clone)]
pub struct WriterSchemas(pub Arc<dyn SchemaStore>);

impl fmt::Debug for WriterSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriterSchemas")
    }
}

/// A task, as `/api/v1/status` lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskView {
    /// Name of the task in the configuration.
    pub name: String,
    /// Name of the table whose entities are scored.
    pub entity: String,
    /// Query of the task, in PQL.
    pub query: String,
    /// End of the predicted window after the moment of scoring, milliseconds.
    pub horizon_ms: i64,
    /// Bands of the task, lowest first.
    pub bands: Vec<BandView>,
    /// Grade of the bundle for the task: `sound`, `provisional`, `insufficient` or
    /// `worse_than_chance`; `None` for a bundle without one.
    pub quality: Option<String>,
    /// Explanation groups of the bundle, by code.
    pub groups: Vec<GroupView>,
    /// Moments at which training examples are taken, as the configuration has them.
    pub anchors: serde_json::Value,
    /// Rules for recommended actions, of which the first that fits wins.
    pub actions: Vec<ActionView>,
}

/// A rule for a recommended action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionView {
    /// Code of the action, as in records.
    pub code: String,
    /// Text for people.
    pub label: String,
    /// Conditions, as the configuration has them.
    pub when: serde_json::Value,
}

/// An explanation group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupView {
    /// Code of the group, as in drivers.
    pub code: String,
    /// Name of the group for people.
    pub label: String,
    /// The sub-score that the group counts for: `fit`, `behaviour`, `relations` or `timing`.
    pub kind: &'static str,
}

/// A band of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BandView {
    /// Name of the band.
    pub name: String,
    /// Probability from which the band is entered.
    pub enter: f64,
    /// Probability below which the band is left.
    pub exit: f64,
}
