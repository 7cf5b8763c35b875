//! `leadpulse models`: the registry of models.

mod compare;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use leadpulse_deployment::{
    Change, Loaded, LogAction, LogEntry, ModelEntry, Promotion, apply_champion, change_by,
    load_bundle, promote, roll_back,
};

use crate::commands::{ClusterArguments, ConfigArgument, date};
use crate::output::JsonArgument;
use compare::CompareArguments;

/// `leadpulse models …`
#[derive(clap::Subcommand)]
pub enum ModelsArguments {
    /// Lists the bundles of the registry, with their names and grades.
    List(ListArguments),
    /// Prints a bundle: its tasks, with grade and figures.
    Show(ShowArguments),
    /// Copies a bundle into the registry, after it was checked.
    Add(AddArguments),
    /// Prints the figures of two bundles side by side; with --data judges both on the same rows.
    Compare(CompareArguments),
    /// Makes a bundle the champion; with --live the running worker goes on under it.
    Promote(PromoteArguments),
    /// Makes the champion before this one the champion again.
    Rollback(RollbackArguments),
    /// Removes a bundle that has no name and that no worker needs.
    Remove(RemoveArguments),
}

impl ModelsArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Add(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Promote(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Remove(command) => command.run(),
        }
    }
}

/// Arguments of `models list`.
#[derive(clap::Args)]
pub struct ListArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// JSON: the bundles and the log of promotions.
    #[arg(long)]
    json: bool,
}

/// Arguments of `models show`.
#[derive(clap::Args)]
pub struct ShowArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Id of a bundle, the start of one, `champion` or `challenger`.
    name: String,
    /// JSON: the manifest.
    #[arg(long)]
    json: bool,
}

/// Arguments of `models add`.
#[derive(clap::Args)]
pub struct AddArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder of the bundle.
    bundle: PathBuf,
    /// Make it the challenger.
    #[arg(long)]
    challenger: bool,
    #[command(flatten)]
    json: JsonArgument,
}

/// Arguments of `models promote`.
#[derive(clap::Args)]
pub struct PromoteArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Id of a bundle, the start of one, or `challenger`.
    name: String,
    /// Ask the running worker to go on under it, with the configuration as it is now.
    #[arg(long)]
    live: bool,
    /// Promote it although a task of it is worse than chance.
    #[arg(long)]
    force: bool,
    /// Name for the log; by default that of the user of this system.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    json: JsonArgument,
}

/// Arguments of `models rollback`.
#[derive(clap::Args)]
pub struct RollbackArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Ask the running worker to go on under it, with the configuration as it is now.
    #[arg(long)]
    live: bool,
    /// Name for the log; by default that of the user of this system.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    json: JsonArgument,
}

/// Arguments of `models remove`.
#[derive(clap::Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Id of a bundle, or the start of one.
    name: String,
    #[command(flatten)]
    json: JsonArgument,
}

/// Arguments of `apply`.
#[derive(clap::Args)]
pub struct ApplyArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Name for the control record; by default that of the user of this system.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    json: JsonArgument,
}

impl ListArguments {
    fn run(self) -> Result<()> {
        let registry = self.config.load(&[])?.models()?;
        let (models, log) = (registry.list()?, registry.log()?);
        if self.json {
            let models: Vec<Value> = models.iter().map(listed).collect();
            say!("{:#}", json!({ "models": models, "log": log }));
            return Ok(());
        }
        if models.is_empty() {
            say!(
                "no model in {}; add one with `leadpulse models add BUNDLE`",
                registry.dir().display()
            );
        }
        for model in &models {
            say!(
                "{}  {:<12} {:<18} {}",
                model.manifest.bundle_id,
                names(model),
                grade(model),
                tasks(model)
            );
        }
        for entry in log {
            say!("{}", in_words(&entry));
        }
        Ok(())
    }
}

impl ShowArguments {
    fn run(self) -> Result<()> {
        let registry = self.config.load(&[])?.models()?;
        let model = registry.find(&self.name)?;
        if self.json {
            say!("{:#}", serde_json::to_value(&model.manifest)?);
            return Ok(());
        }
        let manifest = &model.manifest;
        say!("bundle      {}", manifest.bundle_id);
        say!("names       {}", names(&model));
        say!("created     {}", manifest.created_by);
        say!("plan        {}", manifest.plan_hash);
        say!(
            "folder      {}",
            registry.bundle_dir(&manifest.bundle_id).display()
        );
        for task in &manifest.tasks {
            say!("task        {}", task.name);
            let quality = task.quality.as_ref();
            let words = quality.map_or("not graded", |quality| quality.grade.words());
            say!("  grade      {words}");
            for reason in quality.into_iter().flat_map(|quality| &quality.reasons) {
                say!("             {reason}");
            }
            for (name, figure) in compare::figures(task) {
                say!("  {name:<16} {figure:.4}");
            }
        }
        Ok(())
    }
}

impl AddArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.config.load(&[])?;
        let project = loaded.project()?;
        let bundle = load_bundle(&project, &self.bundle)?;
        let registry = loaded.models()?;
        let added = registry.add(bundle.manifest(), &self.bundle)?;
        let id = &added.manifest.bundle_id;
        if self.challenger {
            registry.challenge(id)?;
        }
        let dir = registry.bundle_dir(id);
        say!("{id}  {}", dir.display());
        self.json
            .print(|| Ok(json!({ "bundle": id, "dir": dir, "challenger": self.challenger })))
    }
}

impl PromoteArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let how = (self.force, self.live);
        let done = promote(&loaded, &self.name, how, &change(self.by))?;
        say_promotion(&loaded, &done);
        self.json.print(|| Ok(of_promotion(&loaded, &done)))
    }
}

impl RollbackArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let done = roll_back(&loaded, self.live, &change(self.by))?;
        say_promotion(&loaded, &done);
        self.json.print(|| Ok(of_promotion(&loaded, &done)))
    }
}

impl RemoveArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let registry = self.config.load(&[])?.models()?;
        let id = registry.find(&self.name)?.manifest.bundle_id;
        registry.remove(&id)?;
        say!("removed {id}");
        self.json.print(|| Ok(json!({ "removed": id })))
    }
}

impl ApplyArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let release = apply_champion(&loaded, &change(self.by))?;
        say_asked(&loaded, &release);
        self.json
            .print(|| Ok(json!({ "asked": of_asked(&loaded, &release) })))
    }
}

fn say_promotion(loaded: &Loaded, done: &Promotion) {
    if let Some(release) = &done.release {
        say_asked(loaded, release);
    }
    say!("{}", in_words(&done.entry));
}

/// A promotion as JSON.
fn of_promotion(loaded: &Loaded, done: &Promotion) -> Value {
    let asked = done.release.as_ref();
    let asked = asked.map(|release| of_asked(loaded, release));
    json!({ "changed": done.entry, "asked": asked })
}

/// The worker that was asked and the digest of its release, as JSON.
fn of_asked(loaded: &Loaded, release: &str) -> Value {
    json!({ "worker": loaded.config.kafka.transactional_id, "release": release })
}

fn say_asked(loaded: &Loaded, release: &str) {
    say!(
        "asked       {} goes on under release {release}; /api/v1/status tells when it does, or why not",
        loaded.config.kafka.transactional_id
    );
}

fn change(by: Option<String>) -> Change {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    change_by(by.or_else(user).unwrap_or_else(|| "unknown".to_owned()))
}

fn names(model: &ModelEntry) -> String {
    let names: Vec<&str> = model.aliases.iter().map(|alias| alias.name()).collect();
    names.join(", ")
}

fn grade(model: &ModelEntry) -> &'static str {
    model.grade().map_or("not graded", |grade| grade.words())
}

fn tasks(model: &ModelEntry) -> String {
    let tasks: Vec<&str> = model
        .manifest
        .tasks
        .iter()
        .map(|task| task.name.as_str())
        .collect();
    tasks.join(", ")
}

fn listed(model: &ModelEntry) -> Value {
    let aliases: Vec<&str> = model.aliases.iter().map(|alias| alias.name()).collect();
    json!({
        "bundle": model.manifest.bundle_id,
        "aliases": aliases,
        "grade": model.grade().map(|grade| grade.code()),
        "plan_hash": model.manifest.plan_hash,
        "tasks": model.manifest.tasks.iter().map(|task| &task.name).collect::<Vec<_>>(),
    })
}

/// A line of the log in words.
fn in_words(entry: &LogEntry) -> String {
    let action = match entry.action {
        LogAction::Promote => "promoted",
        LogAction::RollBack => "rolled back",
    };
    let forced = if entry.forced { ", forced" } else { "" };
    let before = entry.before.as_deref().unwrap_or("none");
    format!(
        "{}  {action:<12} {} (before: {before}) by {}{forced}",
        date(entry.at_ms),
        entry.bundle,
        entry.by
    )
}
