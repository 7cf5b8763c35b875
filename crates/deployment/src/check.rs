//! `leadpulse config check`: everything that can be known before anything is created.

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;

use leadpulse_engine::ports::SchemaLookupError;
use leadpulse_kafka::check_cluster;
use leadpulse_project::{Project, TaskSource};
use leadpulse_registry::{HttpRegistry, LookupError, RegistryMetrics, RegistryOptions};
use leadpulse_schema::Catalog;
use leadpulse_schema::units::Span;

use crate::config_error::ConfigError;
use crate::error::DeployError;
use crate::loaded::Loaded;

/// The result of a check.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Everything that is wrong.
    pub faults: Vec<DeployError>,
    /// Everything that was found right, and what could not be asked, in words.
    pub remarks: Vec<String>,
}

impl CheckReport {
    fn fault(&mut self, fault: impl Into<DeployError>) {
        self.faults.push(fault.into());
    }

    fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }
}

/// Checks a configuration with its schemas, sources, policies and queries. With `connect` also asks
/// the cluster and the registry. Creates nothing.
pub fn check(path: &Path, overrides: &[(&str, String)], connect: bool) -> CheckReport {
    let mut report = CheckReport::default();
    let loaded = match Loaded::read_unchecked(path, overrides) {
        Ok(loaded) => loaded,
        Err(faults) => {
            report.faults.extend(faults.into_iter().map(Into::into));
            return report;
        }
    };
    let faults = loaded.faults();
    let can_connect = faults.is_empty();
    report.faults.extend(faults.into_iter().map(Into::into));
    let catalog = match loaded.catalog() {
        Ok(catalog) => Some(catalog),
        Err(fault) => {
            report.fault(fault);
            None
        }
    };
    if let Some(catalog) = &catalog {
        report.remark(format!(
            "{}: {} tables",
            loaded.schemas_dir().display(),
            catalog.tables.len()
        ));
        check_sources(&loaded, catalog, &mut report);
        check_queries(&loaded, catalog, &mut report);
    }
    check_actions(&loaded, &mut report);
    check_beside(&loaded, &mut report);
    if connect && loaded.is_of_files() {
        report.fault(loaded.no_topics());
    } else if connect && can_connect {
        if let Some(options) = &loaded.config.registry {
            check_registry(options, &mut report);
        }
        check_kafka(&loaded, catalog.as_deref(), &mut report);
    }
    report
}

fn check_sources(loaded: &Loaded, catalog: &Catalog, report: &mut CheckReport) {
    let found = loaded.source_faults(catalog);
    let sources = loaded.config.sources.len();
    if found.is_empty() {
        report.remark(match loaded.is_of_files() {
            true => format!(
                "{sources} sources of files alone: commands on files work, `run` needs a `topic` for each"
            ),
            false => format!("{sources} sources"),
        });
    }
    report.faults.extend(found.into_iter().map(Into::into));
}

fn check_queries(loaded: &Loaded, catalog: &Arc<Catalog>, report: &mut CheckReport) {
    for task in &loaded.config.tasks {
        let source = TaskSource {
            name: task.name.clone(),
            query: task.query.trim().to_owned(),
            anchors: task.anchors,
            lateness_ms: task.lateness.map(Span::ms),
        };
        let planned = Project::new(
            Arc::clone(catalog),
            loaded.config.graph.clone(),
            &[source],
            &loaded.config.targets,
        );
        match planned {
            Ok(_) => report.remark(format!("task {:?}", task.name)),
            Err(fault) => report.fault(ConfigError::from(fault)),
        }
    }
}

/// Remarks on tasks whose rules leave scores without a recommended action.
fn check_actions(loaded: &Loaded, report: &mut CheckReport) {
    for task in &loaded.config.tasks {
        if task.policy.has_scores_without_action() {
            report.remark(format!(
                "task {:?}: every rule of tasks.policy.actions has conditions, so a score that fits none has no \
                 action; end with a rule without `when` to give it one",
                task.name
            ));
        }
    }
}

fn check_beside(loaded: &Loaded, report: &mut CheckReport) {
    if !loaded.config.deliver.is_empty() {
        match loaded.sinks() {
            Ok(sinks) => report.remark(format!("{} sinks", sinks.len())),
            Err(fault) => report.fault(fault),
        }
    }
    if !loaded.config.ingest.is_empty() {
        match loaded.intake() {
            Ok(_) => report.remark("calls of other systems"),
            Err(fault) => report.fault(fault),
        }
    }
}

fn check_registry(options: &RegistryOptions, report: &mut CheckReport) {
    let asked = RegistryMetrics::register(&Registry::new())
        .map_err(DeployError::from)
        .and_then(|metrics| HttpRegistry::new(options, &metrics).map_err(DeployError::from))
        .and_then(|registry| {
            registry.ping().map_err(|error| {
                DeployError::SchemaLookup(match error {
                    LookupError::Unknown(what) => SchemaLookupError::Unknown(what),
                    LookupError::Unavailable(why) => SchemaLookupError::Unavailable(why),
                    LookupError::Denied(why) => SchemaLookupError::Denied(why),
                })
            })
        });
    match asked {
        Ok(()) => report.remark(format!(
            "the registry at {} answers",
            options.url.join(", ")
        )),
        Err(fault) => report.fault(fault),
    }
}

fn check_kafka(loaded: &Loaded, catalog: Option<&Catalog>, report: &mut CheckReport) {
    // Sources that have a fault of their own were reported.
    let inputs = catalog.and_then(|catalog| loaded.inputs(catalog).ok());
    let created = catalog.and_then(|catalog| loaded.inputs_of_people(catalog).ok());
    let found = check_cluster(
        &loaded.config.kafka,
        &inputs.unwrap_or_default(),
        &created.unwrap_or_default(),
    );
    report
        .faults
        .extend(found.faults.into_iter().map(Into::into));
    report.remarks.extend(found.remarks);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_action(path: &Path) -> Vec<String> {
        let report = check(path, &[], false);
        let remarks = report.remarks.into_iter();
        remarks.filter(|one| one.contains("no action")).collect()
    }

    #[test]
    fn every_shipped_task_has_an_action_for_every_score() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../leadpulse.toml");
        let loaded = Loaded::read(&path, &[]).unwrap();
        let tasks = &loaded.config.tasks;
        assert!(tasks.iter().all(|task| !task.policy.actions.is_empty()));
        assert_eq!(without_action(&path), [""; 0]);
    }

    #[test]
    fn a_task_that_leaves_scores_without_action_is_remarked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadpulse.toml");
        let toml = r#"
            [[tasks]]
            name = "wins"
            query = "PREDICT COUNT(a.*, 0, 1, days) > 0 FOR EACH b.c"
            [[tasks.policy.actions]]
            code = "call"
            when = { min_probability = 0.5 }
        "#;
        std::fs::write(&path, toml).unwrap();
        let remarks = without_action(&path);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].contains("task \"wins\""), "{remarks:?}");
    }

    #[test]
    fn sources_of_files_alone_are_enough_unless_a_cluster_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadpulse.toml");
        let schemas = folder.path().join("schemas");
        std::fs::create_dir(&schemas).unwrap();
        let shops = r#"{"type":"record","name":"S","leadpulse":{"table":"shops","role":"root"},"fields":[
            {"name":"id","type":"string","leadpulse":{"key":true}},
            {"name":"hall","type":["null","string"],"default":null,"leadpulse":{"hub":"halls"}}]}"#;
        std::fs::write(schemas.join("shops.avsc"), shops).unwrap();
        let check = |source: &str, connect: bool| {
            let toml = format!("schemas = \"schemas\"\n[[sources]]\ntable = \"shops\"\n{source}");
            std::fs::write(&path, toml).unwrap();
            let report = check(&path, &[], connect);
            let faults = report.faults.iter().map(ToString::to_string);
            let is_told = report.remarks.iter().any(|one| one.contains("files alone"));
            (faults.filter(|one| one.contains("topics")).count(), is_told)
        };
        assert_eq!(check("file = \"shops.csv\"", false), (0, true));
        assert_eq!(check("file = \"shops.csv\"", true), (1, true));
        assert_eq!(check("", false), (1, false));
    }
}
