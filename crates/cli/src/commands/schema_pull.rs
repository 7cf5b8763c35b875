//! `leadpulse schema pull`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prometheus::Registry;
use serde_json::json;

use leadpulse_deployment::Loaded;
use leadpulse_registry::{HttpRegistry, RegistryMetrics, RegistryOptions};
use leadpulse_schema::{Draft, KnownTable, Role, SchemaLanguage, draft};

use crate::output::JsonArgument;

/// Arguments of `schema pull`.
#[derive(clap::Args)]
pub struct PullArguments {
    /// The subject, such as crm.public.account-value.
    #[arg(long)]
    subject: String,
    /// A version of the subject; the latest by default.
    #[arg(long)]
    version: Option<u64>,
    /// Name of the table; the subject's last word by default.
    #[arg(long)]
    table: Option<String>,
    /// The table's role; guessed by default.
    #[arg(long)]
    role: Option<RoleArgument>,
    /// The registry's URL; the configuration's `[registry]` by default.
    #[arg(long)]
    registry: Option<String>,
    /// The configuration with `[registry]` and the schemas folder.
    #[arg(long, default_value_os_t = crate::default_config())]
    config: PathBuf,
    /// The file to write; printed by default. A file that exists is not overwritten.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgument,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoleArgument {
    Root,
    Member,
    Hub,
    Event,
    Staff,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Role {
        match role {
            RoleArgument::Root => Role::Root,
            RoleArgument::Member => Role::Member,
            RoleArgument::Hub => Role::Hub,
            RoleArgument::Event => Role::Event,
            RoleArgument::Staff => Role::Staff,
        }
    }
}

impl PullArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = if self.config.exists() {
            Some(Loaded::read(&self.config, &[])?)
        } else {
            None
        };
        let options = match (&self.registry, &loaded) {
            (Some(url), _) => RegistryOptions {
                url: vec![url.clone()],
                ..RegistryOptions::default()
            },
            (None, Some(loaded)) => loaded.config.registry.clone().with_context(|| {
                format!(
                    "{} has no [registry]; add one, or pass --registry URL",
                    self.config.display()
                )
            })?,
            (None, None) => bail!("there is no {}; pass --registry URL", self.config.display()),
        };
        let metrics = RegistryMetrics::register(&Registry::new())?;
        let registry = HttpRegistry::new(&options, &metrics)?;
        let found = registry.subject(&self.subject, self.version)?;
        let language = match found.language.as_str() {
            "AVRO" => SchemaLanguage::Avro,
            "JSON" => SchemaLanguage::JsonSchema,
            "PROTOBUF" => SchemaLanguage::Protobuf,
            other => bail!(
                "subject {} holds {other}, of which no draft can be made",
                self.subject
            ),
        };
        if !found.references.is_empty() {
            bail!(
                "subject {} refers to other schemas ({}); a draft needs a schema that stands alone",
                self.subject,
                found.references.join(", ")
            );
        }
        let table = self
            .table
            .clone()
            .unwrap_or_else(|| table_of(&self.subject));
        let known = loaded
            .as_ref()
            .map_or(Vec::new(), |loaded| known_tables(&loaded.schemas_dir()));
        let drafted = draft(
            language,
            &found.schema,
            &table,
            self.role.map(Role::from),
            &known,
        )
        .with_context(|| format!("subject {}, version {}", self.subject, found.version))?;
        self.write(&drafted)?;
        show(&drafted, &table, &self.subject, language);
        self.json.print(|| {
            Ok(json!({
                "subject": self.subject,
                "version": found.version,
                "table": table,
                "topic": topic_of(&self.subject),
                "language": found.language,
                "out": self.out,
                "schema": drafted.schema,
                "envelope": drafted.envelope,
                "times": drafted.times,
                "columns": drafted.columns,
                "remarks": drafted.remarks,
            }))
        })
    }

    fn write(&self, drafted: &Draft) -> Result<()> {
        let text = format!("{:#}\n", drafted.schema);
        let Some(path) = &self.out else {
            say!("{}", text.trim_end());
            return Ok(());
        };
        if path.exists() {
            bail!("{} exists; name another file, or delete it", path.display());
        }
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// `crm.public.account-value` → `crm.public.account`.
fn topic_of(subject: &str) -> &str {
    subject.strip_suffix("-value").unwrap_or(subject)
}

/// `crm.public.account-value` → `account`, in lower case.
fn table_of(subject: &str) -> String {
    let topic = topic_of(subject);
    let last = topic.rsplit(['.', '/', '-']).next().unwrap_or(topic);
    last.to_lowercase()
}

/// Tables of a schemas folder, which need not be complete.
fn known_tables(schemas: &Path) -> Vec<KnownTable> {
    let entries = std::fs::read_dir(schemas).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "avsc"))
        .filter_map(|path| KnownTable::declared_in(&std::fs::read_to_string(path).ok()?))
        .collect()
}

/// The source, and the remarks, on the error stream: the schema alone is the output.
fn show(drafted: &Draft, table: &str, subject: &str, language: SchemaLanguage) {
    let topic = topic_of(subject);
    eprintln!("\n[[sources]]\ntable = {table:?}\ntopic = {topic:?}");
    match language {
        SchemaLanguage::Avro => {}
        SchemaLanguage::JsonSchema => eprintln!("format = \"json-schema\""),
        SchemaLanguage::Protobuf => eprintln!("format = \"protobuf\""),
    }
    if let Some(envelope) = drafted.envelope {
        eprintln!("envelope = {envelope:?}");
    }
    if !drafted.times.is_empty() {
        let times = drafted
            .times
            .iter()
            .map(|(field, unit)| format!("{field} = {unit:?}"));
        eprintln!("times = {{ {} }}", times.collect::<Vec<_>>().join(", "));
    }
    if !drafted.columns.is_empty() {
        eprintln!("\n[sources.columns]");
        for (path, field) in &drafted.columns {
            eprintln!("{path:?} = {field:?}");
        }
    }
    eprintln!();
    for remark in &drafted.remarks {
        eprintln!("- {remark}");
    }
}

#[cfg(test)]
mod tests {
    use super::table_of;

    #[test]
    fn a_subject_names_its_table_last() {
        assert_eq!(table_of("crm.public.Account-value"), "account");
        assert_eq!(table_of("activities"), "activities");
    }
}
