//! `leadpulse completions`, `leadpulse man`: files for shells and readers, from the declared
//! commands.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::Arguments;
use crate::output::JsonArgument;

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct CompletionsArguments {
    shell: Shell,
}

impl CompletionsArguments {
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "leadpulse",
            &mut script,
        );
        say!("{}", String::from_utf8(script)?.trim_end());
        Ok(())
    }
}

/// Arguments of `man`.
#[derive(clap::Args)]
pub struct ManArguments {
    /// Folder to write to; it is made.
    dir: PathBuf,
    #[command(flatten)]
    json: JsonArgument,
}

impl ManArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let dir = &self.dir;
        let failed = || {
            format!(
                "{} cannot be written; check the folder, or name another",
                dir.display()
            )
        };
        std::fs::create_dir_all(dir).with_context(failed)?;
        clap_mangen::generate_to(Arguments::command(), dir).with_context(failed)?;
        say!("written to {}: man {0}/leadpulse.1", dir.display());
        self.json.print(|| Ok(json!({ "dir": dir })))
    }
}
