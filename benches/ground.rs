//! The ground of all measurements: a simulated market as records, and a bundle that scores it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prometheus::Registry;
use tempfile::TempDir;

use leadpulse_engine::ports::{InputPartition, RecordBatch, SchemaStore};
use leadpulse_engine::{ClockMode, Task};
use leadpulse_graph::{DAY_MS, owner_of};
use leadpulse_history::{FileSource, Files, Replay};
use leadpulse_learn::{TrainOptions, TrainTask, train};
use leadpulse_model::{Bundle, FitOptions, Regularisation};
use leadpulse_project::Project;
use leadpulse_registry::RegistryMetrics;
use leadpulse_schema::{
    Catalog, Operation, Position, Role, Row, RowBatch, RowEncoder, Value, encode_frame,
};
use leadpulse_sim::{Knobs, Market, MarketOptions, write_files};

use crate::gauge::{number, resident_bytes};
use crate::harness::repository;
use leadpulse_deployment::Loaded;
use leadpulse_deployment::schema_store;

/// Rows read and encoded at a time.
const CHUNK_ROWS: usize = 8192;

/// Size of the market and of its bundle.
#[derive(Clone, Copy)]
pub struct Size {
    pub accounts: usize,
    pub days: u32,
    pub ensemble: usize,
    /// Records after the history.
    pub live_records: usize,
    /// Records a second of event time among them.
    pub live_per_second: u32,
    /// The day on which history ends, milliseconds; by default that of a market of old.
    pub ends_ms: Option<i64>,
}

/// The market and the bundle.
pub struct Ground {
    pub loaded: Loaded,
    pub project: Project,
    pub scorer: Arc<Bundle>,
    pub schemas: Arc<dyn SchemaStore>,
    /// One partition a table; records say theirs by number.
    pub partitions: Vec<InputPartition>,
    /// The history's files.
    pub files: Vec<FileSource>,
    /// The history as it lies in the topics, in order of time.
    pub history: RecordBatch,
    /// The market's next records, in order, but dense: so many records a second of event time, as
    /// when they arrive live.
    pub live: RecordBatch,
    size: Size,
    prepared_seconds: f64,
    _folder: TempDir,
}

/// The shipped configuration, on events' own time.
pub fn configuration(overrides: &[(&str, String)]) -> Result<Loaded> {
    let mut loaded = Loaded::read(&repository().join("leadpulse.toml"), overrides)?;
    loaded.config.engine.clock = ClockMode::Events;
    Ok(loaded)
}

impl Ground {
    /// Simulates, fits and encodes.
    pub fn prepare(size: &Size) -> Result<Self> {
        let started = Instant::now();
        let loaded = configuration(&[])?;
        let project = loaded.project()?;
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let scorer = Arc::new(fit(
            &loaded,
            &project,
            &folder.path().join("fit"),
            size.ensemble,
        )?);
        let schemas = schema_store(&loaded, &RegistryMetrics::register(&Registry::new())?)?;

        let before_end = i64::from(size.days) * DAY_MS;
        let start_ms = size.ends_ms.map(|ms| ms - before_end);
        let market = |days| MarketOptions {
            accounts: size.accounts,
            days,
            seed: 3,
            start_ms: start_ms.unwrap_or(MarketOptions::default().start_ms),
        };
        let files = simulate(
            &loaded,
            &project.catalog,
            market(size.days),
            folder.path().join("history"),
        )?;
        let inputs = loaded.inputs(&project.catalog)?;
        let partitions: Vec<InputPartition> = inputs
            .into_iter()
            .map(|input| InputPartition {
                topic: input.topic,
                partition: 0,
                tables: input.tables,
            })
            .collect();
        let mut encoder = Encoder::new(&project.catalog, schemas.as_ref(), &partitions)?;
        let history_end_ms = market(0).start_ms + before_end;
        let mut history = RecordBatch::default();
        let mut replay = Replay::open(project.catalog.clone(), &files)?;
        encoder.read(&mut replay, &mut history, usize::MAX, |row| {
            Some(row.known_ms())
        })?;

        // The same market, lived on: as long as the history's own pace asks for, and half as long
        // again.
        let per_day = history.len() / size.days as usize;
        let more_days = (size.live_records * 3 / 2).div_ceil(per_day.max(1)) as u32;
        let longer = simulate(
            &loaded,
            &project.catalog,
            market(size.days + more_days),
            folder.path().join("live"),
        )?;
        let mut live = RecordBatch::default();
        let mut replay = Replay::open(project.catalog.clone(), &longer)?;
        let mut index = 0;
        encoder.read(&mut replay, &mut live, size.live_records, |row| {
            (row.known_ms() >= history_end_ms).then(|| {
                index += 1;
                history_end_ms + index * 1000 / i64::from(size.live_per_second)
            })
        })?;
        ensure!(
            live.len() == size.live_records,
            "the market ends after {} live records",
            live.len()
        );
        std::fs::remove_dir_all(folder.path().join("live"))?;

        let prepared_seconds = started.elapsed().as_secs_f64();
        Ok(Self {
            loaded,
            project,
            scorer,
            schemas,
            partitions,
            files,
            history,
            live,
            size: *size,
            prepared_seconds,
            _folder: folder,
        })
    }

    /// Records in an epoch at most, as configured.
    pub fn largest_epoch(&self) -> usize {
        self.loaded.config.engine.max_records
    }

    /// The tasks that the engine scores.
    pub fn tasks(&self) -> Result<Vec<Task>> {
        let task = |(planned, configured): (
            &leadpulse_project::TaskPlan,
            &leadpulse_deployment::TaskConfig,
        )| {
            Ok(Task {
                name: planned.name.as_str().into(),
                entity: planned.plan.entity,
                population: planned.population.clone(),
                policy: configured.policy.validated()?,
                query: planned.plan.text.clone(),
            })
        };
        // One was trained; a configuration with more serves as well.
        self.project
            .tasks
            .iter()
            .zip(&self.loaded.config.tasks)
            .take(1)
            .map(task)
            .collect()
    }

    /// Prints the size of the market and the bundle.
    pub fn print(&self) {
        let layout = leadpulse_features::Scorer::plan(self.scorer.as_ref()).layout();
        let widths: Vec<String> = layout
            .members
            .iter()
            .map(|m| format!("{} {}", m.columns.len(), m.name))
            .collect();
        let bytes = |batch: &RecordBatch| number(batch.bytes() as f64 / batch.len().max(1) as f64);
        println!(
            "market    {} accounts, {} days: {} records of {} bytes; then {} live ones at {} a second of event time",
            number(self.size.accounts as f64),
            self.size.days,
            number(self.history.len() as f64),
            bytes(&self.history),
            number(self.live.len() as f64),
            number(f64::from(self.size.live_per_second)),
        );
        println!(
            "bundle    ensemble of {}, hidden {}, f32, {} root columns, {} a member, {} explanation groups",
            self.size.ensemble,
            self.scorer
                .manifest()
                .tasks
                .iter()
                .map(|t| t.regularisation.hidden)
                .max()
                .unwrap_or_default(),
            layout.root.len(),
            widths.join(", "),
            layout.groups.len()
        );
        println!(
            "prepared  in {} s; {} MB resident",
            number(self.prepared_seconds),
            number(resident_bytes().unwrap_or_default() as f64 / 1e6)
        );
    }
}

/// Records `from..to` of a batch, cut into epochs of so many.
pub fn epochs(
    records: &RecordBatch,
    from: usize,
    to: usize,
    epoch_records: usize,
) -> Vec<RecordBatch> {
    let cut = |start: usize| {
        let mut epoch = RecordBatch::default();
        (start..to.min(start + epoch_records))
            .for_each(|index| epoch.push_copy(records.record(index)));
        epoch
    };
    (from..to).step_by(epoch_records).map(cut).collect()
}

fn simulate(
    loaded: &Loaded,
    catalog: &Catalog,
    options: MarketOptions,
    folder: PathBuf,
) -> Result<Vec<FileSource>> {
    write_files(
        &mut Market::new(options, Knobs::default())?,
        &folder,
        &mut |_| {},
    )?;
    Ok(loaded.files(catalog, &folder)?)
}

/// A bundle of the default shape, from a small market and one epoch: how well it predicts does not
/// matter here.
fn fit(loaded: &Loaded, project: &Project, folder: &Path, ensemble: usize) -> Result<Bundle> {
    let options = MarketOptions {
        accounts: 500,
        days: 300,
        seed: 2,
        ..MarketOptions::default()
    };
    let start_ms = options.start_ms;
    let files = simulate(loaded, &project.catalog, options, folder.to_owned())?;
    let task = project
        .tasks
        .first()
        .context("the shipped configuration has no task")?;
    let fit = FitOptions {
        candidates: vec![Regularisation::default()],
        ensemble,
        selection_members: 1,
        max_epochs: 1,
        ..FitOptions::default()
    };
    let options = TrainOptions {
        val_from_ms: Some(start_ms + 200 * DAY_MS),
        test_from_ms: Some(start_ms + 299 * DAY_MS),
        ..TrainOptions::default()
    };
    Ok(train(
        project,
        &[TrainTask {
            plan: task,
            fit,
            is_optional: false,
        }],
        &Files::prepare(project.catalog.clone(), &files)?,
        &options,
        &mut |_| {},
    )?
    .0)
}

/// Rows become framed records, numbered by partition.
struct Encoder<'a> {
    catalog: Arc<Catalog>,
    rows: RowEncoder,
    partitions: &'a [InputPartition],
    /// Per partition: schema id, next offset.
    written: Vec<(u32, i64)>,
}

impl<'a> Encoder<'a> {
    fn new(
        catalog: &Arc<Catalog>,
        schemas: &dyn SchemaStore,
        partitions: &'a [InputPartition],
    ) -> Result<Self> {
        let id = |input: &InputPartition| {
            schemas.id_of(
                &format!("{}-value", input.topic),
                &catalog.table_at(input.tables[0]).json,
            )
        };
        let written = partitions
            .iter()
            .map(|input| Ok((id(input)?, 0)))
            .collect::<Result<_>>()?;
        Ok(Self {
            catalog: catalog.clone(),
            rows: RowEncoder::new(catalog),
            partitions,
            written,
        })
    }

    /// Appends the rows that `at` gives a moment, until there are so many records.
    fn read(
        &mut self,
        replay: &mut Replay,
        out: &mut RecordBatch,
        records: usize,
        mut at: impl FnMut(Row<'_>) -> Option<i64>,
    ) -> Result<()> {
        let mut rows = RowBatch::new();
        while out.len() < records && replay.read(i64::MAX, CHUNK_ROWS, &mut rows)? > 0 {
            for row in rows.iter() {
                if out.len() < records
                    && let Some(at_ms) = at(row)
                {
                    self.push(row, at_ms, out)?;
                }
            }
            rows.clear();
        }
        Ok(())
    }

    /// Appends a row as a record known, and if its table has a time field happened, at a moment.
    fn push(&mut self, row: Row<'_>, at_ms: i64, out: &mut RecordBatch) -> Result<()> {
        let catalog = &self.catalog;
        let table = catalog.table_at(row.table());
        let mut moved = RowBatch::new();
        let mut builder = moved.start(
            catalog,
            row.table(),
            Operation::Upsert,
            Position::default(),
            at_ms,
        );
        table
            .fields
            .iter()
            .for_each(|field| builder.set(field.id, row.get(field.id)));
        if let Some(field) = table.time {
            builder.set(field, Value::Time(at_ms));
        }
        builder.finish();
        let partition = self
            .partitions
            .iter()
            .position(|p| p.tables.contains(&row.table()))
            .context("a table of the market has no topic")?;
        let (schema, offset) = &mut self.written[partition];
        let (mut body, mut value) = (Vec::new(), Vec::new());
        self.rows.encode(moved.row(0), &mut body)?;
        encode_frame(*schema, &body, &mut value);
        // Entities are keyed by their own key, events by their owner's, as `leadpulse replay` does.
        let key = match table.role {
            Role::Event => owner_of(catalog, row).map_or(row.key(), |(_, key)| key),
            _ => row.key(),
        };
        out.push(
            partition as u32,
            *offset,
            at_ms,
            Some(key.as_bytes()),
            Some(&value),
            [],
        );
        *offset += 1;
        Ok(())
    }
}
