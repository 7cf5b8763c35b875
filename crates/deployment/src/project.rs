//! The folders, topics and files that a configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leadpulse_engine::ClockMode;
use leadpulse_engine::ports::Clock;
use leadpulse_history::{FileSource, FoundFile, REFUSED_RATIO, find_files, is_glob};
use leadpulse_kafka::InputTopic;
use leadpulse_project::{Project, TaskSource};
use leadpulse_schema::units::Span;
use leadpulse_schema::{Catalog, FileOptions, Role, Table, TableId, TopicDecoder, TopicSource};

use crate::clock::SystemClock;
use crate::config::SourceConfig;
use crate::config_error::ConfigError;
use crate::loaded::Loaded;

impl Loaded {
    /// The folder of the stored state, relative to the file; `None` where none is kept.
    pub fn store_dir(&self) -> Option<PathBuf> {
        let base = self.path.parent().unwrap_or(Path::new("."));
        self.config.store.dir.as_ref().map(|dir| base.join(dir))
    }

    /// The schemas folder, `schemas` beside the file by default.
    pub fn schemas_dir(&self) -> PathBuf {
        let base = self.path.parent().unwrap_or(Path::new("."));
        base.join(if self.config.schemas.as_os_str().is_empty() {
            Path::new("schemas")
        } else {
            &self.config.schemas
        })
    }

    /// The tables of the schemas folder, with the rates of their amounts.
    ///
    /// # Errors
    /// All faults of the folder; a fault of the rates.
    pub fn catalog(&self) -> Result<Arc<Catalog>, ConfigError> {
        let dir = self.schemas_dir();
        match Catalog::load(&dir) {
            Ok(mut catalog) => {
                if let Some(rates) = self.config.currency.checked()? {
                    catalog.set_rates(rates);
                }
                Ok(Arc::new(catalog))
            }
            Err(faults) => Err(ConfigError::Schemas { dir, faults }),
        }
    }

    /// Catalog, graph options and planned tasks.
    ///
    /// # Errors
    /// A fault of the schemas folder, or a graph option or query that does not fit it.
    pub fn project(&self) -> Result<Project, ConfigError> {
        self.project_on(self.catalog()?)
    }

    /// The tasks as the project plans them.
    pub(crate) fn task_sources(&self) -> Vec<TaskSource> {
        let tasks = self.config.tasks.iter().map(|t| TaskSource {
            name: t.name.clone(),
            query: t.query.trim().to_owned(),
            anchors: t.anchors,
            lateness_ms: t.lateness.map(Span::ms),
        });
        tasks.collect()
    }

    /// The files of a data folder, by the sources' patterns. Logs the sources that match no file.
    ///
    /// # Errors
    /// A source of an unknown table or with a lag that is no duration; a folder without any file.
    pub fn files(&self, catalog: &Catalog, data: &Path) -> Result<Vec<FileSource>, ConfigError> {
        let mut found = Vec::new();
        let latest_ms = self.latest_ms();
        for source in &self.config.sources {
            let Some(pattern) = &source.file else {
                continue;
            };
            let table = self.table(catalog, source)?;
            let options = file_options(source)?;
            let files = find_files(data, pattern)?;
            if files.is_empty() && is_glob(pattern) && !source.optional {
                return Err(ConfigError::NoMatch {
                    table: source.table.clone(),
                    pattern: pattern.clone(),
                    data: data.to_owned(),
                });
            }
            if files.is_empty() && !source.optional {
                tracing::warn!(table = source.table, pattern, data = %data.display(), "no file matches");
            }
            found.extend(
                files
                    .into_iter()
                    .map(|FoundFile { path, origin }| FileSource {
                        table: table.id,
                        path,
                        options: FileOptions {
                            origin,
                            latest_ms,
                            ..options.clone()
                        },
                        refused_ratio: REFUSED_RATIO,
                    }),
            );
        }
        if found.is_empty() {
            return Err(ConfigError::NoFiles {
                data: data.to_owned(),
                path: self.path.clone(),
            });
        }
        Ok(found)
    }

    /// The newest time that rows of files may have, by the rule of a running worker; `None` where the
    /// configuration does not look at the clock.
    fn latest_ms(&self) -> Option<i64> {
        let tolerance_ms = self.config.graph.future_tolerance_ms;
        let looks_at_clock = self.config.engine.clock == ClockMode::Wall;
        looks_at_clock.then(|| SystemClock.wall_ms().saturating_add(tolerance_ms))
    }

    /// A file as a table's source describes its files; without such a source, by the table alone.
    ///
    /// # Errors
    /// An unknown table, or a source with a lag that is no duration.
    pub fn file_of(
        &self,
        catalog: &Catalog,
        table: &str,
        path: &Path,
    ) -> Result<FileSource, ConfigError> {
        let known = catalog.table(table).ok_or_else(|| ConfigError::NoTable {
            path: self.path.clone(),
            table: table.to_owned(),
        })?;
        let sources = &self.config.sources;
        let source = sources.iter().find(|source| {
            catalog
                .table(&source.table)
                .is_some_and(|t| t.id == known.id)
        });
        Ok(FileSource {
            table: known.id,
            path: path.to_owned(),
            options: source.map(file_options).transpose()?.unwrap_or_default(),
            refused_ratio: REFUSED_RATIO,
        })
    }

    /// The input topics, in order of the sources. Several sources may read one topic.
    ///
    /// # Errors
    /// A source of an unknown table; a configuration without any topic.
    pub fn inputs(&self, catalog: &Catalog) -> Result<Vec<InputTopic>, ConfigError> {
        let mut inputs: Vec<InputTopic> = Vec::new();
        for source in &self.config.sources {
            let Some(topic) = &source.topic else { continue };
            let table = self.table(catalog, source)?.id;
            match inputs.iter_mut().find(|input| input.topic == *topic) {
                Some(input) if input.tables.contains(&table) => {}
                Some(input) => input.tables.push(table),
                None => inputs.push(InputTopic {
                    topic: topic.clone(),
                    tables: vec![table],
                }),
            }
        }
        if inputs.is_empty() {
            return Err(self.no_topics());
        }
        Ok(inputs)
    }

    /// The input topics that hold decisions, answers and requests of people only: a run creates them, as it does
    /// its outputs, because no other system has them.
    ///
    /// # Errors
    /// As [`Self::inputs`].
    pub fn inputs_of_people(&self, catalog: &Catalog) -> Result<Vec<InputTopic>, ConfigError> {
        let is_said = |table: &TableId| {
            matches!(
                catalog.table_at(*table).role,
                Role::Override | Role::Feedback | Role::Erasure
            )
        };
        let mut inputs = self.inputs(catalog)?;
        inputs.retain(|input| input.tables.iter().all(is_said));
        Ok(inputs)
    }

    /// The reading of each input topic, by the shapes of its sources.
    ///
    /// # Errors
    /// A shape that does not fit its table; sources of a topic that cannot be told apart.
    pub fn topics(&self, catalog: &Catalog) -> Result<Vec<(String, TopicDecoder)>, ConfigError> {
        let mut topics = Vec::new();
        for InputTopic { topic, .. } in self.inputs(catalog)? {
            let mut sources = Vec::new();
            for source in &self.config.sources {
                if source.topic.as_ref() == Some(&topic) {
                    sources.push(TopicSource {
                        table: self.table(catalog, source)?.id,
                        shape: source.shape(),
                    });
                }
            }
            let decoder = TopicDecoder::new(&topic, catalog, &sources)?;
            topics.push((topic, decoder));
        }
        Ok(topics)
    }

    /// Everything that is wrong with the sources: a table that no schema defines, a lag that is no
    /// duration, a column for a field that the table does not have, no topic at all.
    pub fn source_faults(&self, catalog: &Catalog) -> Vec<ConfigError> {
        let mut faults = Vec::new();
        for source in &self.config.sources {
            let table = match self.table(catalog, source) {
                Ok(table) => table,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            faults.extend(file_options(source).err());
            let shape = source.shape();
            let checked = shape.check(catalog, table.id, source.known_time.as_deref());
            faults.extend(checked.err().map(ConfigError::from));
        }
        if self.is_of_files() {
            return faults;
        }
        let mut sources = self.config.sources.iter();
        if sources.all(|source| source.topic.is_none()) {
            faults.push(self.no_topics());
        }
        if faults.is_empty() {
            faults.extend(self.topics(catalog).err());
        }
        faults
    }

    /// True where every source names files and none a topic: enough for the commands on files.
    pub fn is_of_files(&self) -> bool {
        let sources = &self.config.sources;
        let is_of_files = |source: &SourceConfig| source.file.is_some() && source.topic.is_none();
        !sources.is_empty() && sources.iter().all(is_of_files)
    }

    /// The fault of a configuration that a worker is to run under, and that names no topic.
    pub(crate) fn no_topics(&self) -> ConfigError {
        ConfigError::NoTopics {
            path: self.path.clone(),
        }
    }

    fn table<'a>(
        &self,
        catalog: &'a Catalog,
        source: &SourceConfig,
    ) -> Result<&'a Table, ConfigError> {
        catalog
            .table(&source.table)
            .ok_or_else(|| ConfigError::NoTable {
                path: self.path.clone(),
                table: source.table.clone(),
            })
    }
}

fn file_options(source: &SourceConfig) -> Result<FileOptions, ConfigError> {
    let lag_ms = match &source.lag {
        Some(lag) => lag
            .parse::<Span>()
            .map_err(|_| ConfigError::Lag {
                lag: lag.clone(),
                table: source.table.clone(),
            })?
            .ms(),
        None => 0,
    };
    Ok(FileOptions {
        partition: 0,
        known_time: source.known_time.clone(),
        lag_ms,
        shape: source.shape(),
        origin: None,
        latest_ms: None,
    })
}
