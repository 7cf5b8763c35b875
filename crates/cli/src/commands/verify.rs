//! `leadpulse verify`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::json;

use leadpulse_engine::audit;

use crate::commands::ClusterArguments;
use crate::output::JsonArgument;
use leadpulse_deployment::{Assembly, ModelChoice, stop_on_signal};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Folder of the bundle. By default the champion of the registry of models.
    #[arg(long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgument,
}

impl VerifyArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let project = loaded.project()?;
        let choice = self
            .model
            .map_or(ModelChoice::Registry, ModelChoice::Folder);
        let chosen = choice.load(&loaded, &project)?;
        let assembly = Assembly {
            loaded: &loaded,
            project: &project,
            scorer: Arc::new(chosen.bundle),
            history: None,
            registry: chosen.registry,
            origin: chosen.origin,
        };
        let found = audit(assembly.auditor(stop_on_signal()?)?)?;
        say!("epochs       {}", found.epochs);
        say!("recomputed   {}", found.recomputed);
        say!("equal        {}", found.recomputed - found.outputs_differ);
        say!("rows differ  {}", found.rows_differ);
        if let Some(epoch) = found.first_difference {
            say!("first        epoch {epoch}");
        }
        if let Some(epoch) = found.other_version_from {
            say!(
                "from epoch {epoch} on a version scored that is not at hand, neither given nor in the registry of models: outputs are not computed again from there, rows are applied and counted"
            );
        }
        self.json.print(|| {
            Ok(json!({
                "epochs": found.epochs,
                "recomputed": found.recomputed,
                "equal": found.recomputed - found.outputs_differ,
                "outputs_differ": found.outputs_differ,
                "rows_differ": found.rows_differ,
                "first_difference": found.first_difference,
                "other_version_from": found.other_version_from,
            }))
        })?;
        if found.outputs_differ + found.rows_differ > 0 {
            bail!(
                "{} epochs come out otherwise than committed. Outputs differ after another type of processor, program or library; rows differ where \
                 input topics or schemas are not what they were. A restart goes on in either case",
                found.outputs_differ.max(found.rows_differ)
            );
        }
        Ok(())
    }
}
