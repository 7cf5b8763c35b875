//! `leadpulse config`: prints the configuration, or checks it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use leadpulse_deployment::{DEFAULT_ORIGIN, Loaded, check, in_lines};

use crate::output::{JsonArgument, explain};

#[derive(clap::Args)]
pub struct ConfigArguments {
    /// The configuration.
    #[arg(long, global = true, default_value_os_t = crate::default_config())]
    config: PathBuf,
    /// Print one JSON object; lines for people go to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Option<ConfigAction>,
}

#[derive(clap::Subcommand)]
enum ConfigAction {
    /// Prints the settings in force with their origin.
    Show {
        /// Only settings that something sets: the file, a variable, an argument.
        #[arg(long)]
        changed: bool,
    },
    /// Checks the file, secrets, schemas, sources, policies and queries, and creates nothing. Lists
    /// all faults.
    Check {
        /// Asks the cluster and the registry too.
        #[arg(long)]
        connect: bool,
    },
}

impl ConfigArguments {
    pub fn run(self) -> Result<()> {
        let json = JsonArgument::from(self.json);
        json.begin();
        let connect = match self.action {
            Some(ConfigAction::Check { connect }) => connect,
            Some(ConfigAction::Show { changed }) => return show(&self.config, changed, json),
            None => return show(&self.config, false, json),
        };
        let report = check(&self.config, &[], connect);
        for remark in &report.remarks {
            say!("ok      {remark}");
        }
        let mut faults = Vec::new();
        for fault in report.faults {
            faults.push(explain(&anyhow::Error::from(fault)));
        }
        for fault in &faults {
            say!("fault   {fault}");
        }
        json.print(|| Ok(json!({ "faults": faults, "remarks": report.remarks })))?;
        match faults.len() {
            0 => Ok(()),
            1 => anyhow::bail!("{} has 1 fault", self.config.display()),
            count => anyhow::bail!("{} has {count} faults", self.config.display()),
        }
    }
}

/// Prints the settings in force; those that something sets where `changed`.
fn show(config: &Path, changed: bool, json: JsonArgument) -> Result<()> {
    let loaded = Loaded::read(config, &[])?;
    let settings = loaded.settings()?;
    let lines = in_lines(&settings);
    let mut shown = serde_json::Map::new();
    for (one, line) in settings.into_iter().zip(lines.lines()) {
        if !changed || one.origin != DEFAULT_ORIGIN {
            say!("{line}");
            let setting = json!({ "value": one.value, "origin": one.origin });
            shown.insert(one.key, setting);
        }
    }
    json.print(|| Ok(Value::Object(shown)))
}
