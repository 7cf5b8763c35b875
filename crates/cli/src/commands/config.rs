//! `leadpulse config`: prints the configuration, or checks it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use leadpulse_deployment::{Loaded, check};

use crate::output::explain;

#[derive(clap::Args)]
pub struct ConfigArguments {
    /// The configuration.
    #[arg(long, global = true, default_value_os_t = crate::default_config())]
    config: PathBuf,
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
        let connect = match self.action {
            Some(ConfigAction::Check { connect }) => connect,
            Some(ConfigAction::Show { changed }) => return show(&self.config, changed),
            None => return show(&self.config, false),
        };
        let report = check(&self.config, &[], connect);
        for remark in report.remarks {
            say!("ok      {remark}");
        }
        let count = report.faults.len();
        for fault in report.faults {
            say!("fault   {}", explain(&anyhow::Error::from(fault)));
        }
        match count {
            0 => Ok(()),
            1 => anyhow::bail!("{} has 1 fault", self.config.display()),
            _ => anyhow::bail!("{} has {count} faults", self.config.display()),
        }
    }
}

/// Prints the settings in force; those that something sets where `changed`.
fn show(config: &Path, changed: bool) -> Result<()> {
    let settings = Loaded::read(config, &[])?.effective()?;
    for line in settings.lines() {
        if !changed || !line.ends_with("  # default") {
            say!("{line}");
        }
    }
    Ok(())
}
