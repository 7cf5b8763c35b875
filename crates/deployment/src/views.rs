//! The configuration as the API shows it.

use std::sync::Arc;

use prometheus::Registry;
use serde::Serialize;
use serde_json::Value;

use leadpulse_engine::Task;
use leadpulse_engine::explain::ExplainDesk;
use leadpulse_engine::ports::SchemaStore;
use leadpulse_engine::questions::QuestionDesk;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_features::{Group, Scorer};
use leadpulse_policy::ActionOptions;
use leadpulse_project::Project;
use leadpulse_schema::Role;
use leadpulse_server::{
    ActionView, ArchiveDesk, BandView, GroupView, OperationsDesk, QueryDesk, ServerState, TaskView,
    TaskViews, WriterSchemas,
};

use crate::archive::TopicArchive;
use crate::config::Config;
use crate::deployment::Assembly;
use crate::operations::LoadedOperations;
use crate::queries::CatalogPlanner;

/// State of the server: tasks and tables by name, beside the committed state.
pub(crate) fn server_state(
    assembly: &Assembly<'_>,
    views: TaskViews,
    (read_model, schemas): (&Arc<ReadModel>, &Arc<dyn SchemaStore>),
    registry: Registry,
    (explanations, questions): (ExplainDesk, QuestionDesk),
    archive: TopicArchive,
) -> ServerState {
    let catalog = &assembly.project.catalog;
    let scored_tables = catalog
        .tables
        .iter()
        .filter(|table| matches!(table.role, Role::Root | Role::Member));
    ServerState {
        read_model: read_model.clone(),
        registry,
        tasks: views,
        tables: scored_tables.map(|table| table.name.clone()).collect(),
        catalog: Some(catalog.clone()),
        explanations: Some(explanations),
        questions: Some(questions),
        history: assembly.history.clone(),
        archive: Some(ArchiveDesk::new(Arc::new(archive))),
        operations: Some(OperationsDesk::new(Arc::new(LoadedOperations {
            loaded: assembly.loaded.clone(),
        }))),
        queries: Some(QueryDesk(Arc::new(CatalogPlanner {
            catalog: catalog.clone(),
            targets: assembly.loaded.config.targets.clone(),
        }))),
        schemas: Some(WriterSchemas(schemas.clone())),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// The tasks of a version, as the API shows them.
pub(crate) fn task_views(
    config: &Config,
    project: &Project,
    scorer: &dyn Scorer,
    tasks: &[Task],
) -> Vec<TaskView> {
    let view = |task| task_view(config, project, scorer, task);
    tasks.iter().map(view).collect()
}

fn task_view(config: &Config, project: &Project, scorer: &dyn Scorer, task: &Task) -> TaskView {
    let scored = scorer
        .tasks()
        .iter()
        .find(|scored| scored.name == *task.name);
    let bands = task.policy.bands().map(|band| BandView {
        name: band.name.to_string(),
        enter: band.enter,
        exit: band.exit,
    });
    let groups = scorer.plan().layout().groups.iter();
    let configured = config.tasks.iter().find(|one| one.name == *task.name);
    let actions = configured.map_or(&[][..], |one| &one.policy.actions);
    TaskView {
        name: task.name.to_string(),
        entity: project.catalog.table_at(task.entity).name.clone(),
        query: task.query.clone(),
        horizon_ms: scored.map_or(0, |scored| scored.horizon_ms),
        bands: bands.collect(),
        quality: scored.and_then(|scored| scored.quality.clone()),
        groups: groups.map(group_view).collect(),
        anchors: configured.map_or(Value::Null, |one| as_json(&one.anchors)),
        actions: actions.iter().map(action_view).collect(),
    }
}

/// A part of the configuration as JSON; null for one that JSON cannot express.
fn as_json(part: &impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn action_view(rule: &ActionOptions) -> ActionView {
    let label = rule.label.as_ref().unwrap_or(&rule.code);
    ActionView {
        code: rule.code.clone(),
        label: label.clone(),
        when: as_json(&rule.when),
    }
}

fn group_view(group: &Group) -> GroupView {
    GroupView {
        code: group.code.clone(),
        label: group.label.clone(),
        kind: group.kind.name(),
    }
}
