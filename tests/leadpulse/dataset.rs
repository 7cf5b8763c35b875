//! Histories for the scenarios: files, schemas, a task and a bundle trained on them. Made once per
//! test run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use flate2::read::GzDecoder;
use leadpulse_schema::units::DAY_MS;
use leadpulse_schema::{Catalog, parse_time_ms};
use serde_json::Value as Json;
use toml::Value as Toml;

use super::process::{arg, leadpulse};
use super::run_to_end::Reference;
use crate::harness::repository;

/// Days of history of the simulated market.
pub const MARKET_DAYS: u64 = 250;

/// Quick and rough training: the tests compare scores, and do not judge them.
const FIT: &str =
    "candidates = [{ hidden = 16 }]\nensemble = 1\nselection_members = 1\nmax_epochs = 3";

/// A history and a model of it.
pub struct Dataset {
    /// The configuration without settings for Kafka, with absolute paths.
    pub config: toml::Table,
    /// Folder of the files.
    pub data: PathBuf,
    /// Name of the task that the bundle predicts.
    pub task: &'static str,
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Column with the key of the scored entities.
    pub key: &'static str,
    /// The population of the task's query, computed without the code under test.
    pub population: Population,
    /// A moment of the history. The threshold lies among the scores of that moment.
    pub midway: &'static str,
    /// Number of batches of the history, each produced and scored before the next.
    pub batches: usize,
    /// Records per epoch, so that there are a few dozen epochs.
    pub max_records: usize,
    /// The table with the most records, to be read ahead of the others.
    pub largest: &'static str,
    /// The run without faults, with which other runs are compared.
    pub reference: OnceLock<Option<Reference>>,
}

/// All keys in a file; with `active`, those with a recent event.
pub struct Population {
    entities: &'static str,
    /// Column with the known time.
    time: &'static str,
    active: Option<Active>,
}

struct Active {
    events: &'static str,
    time: &'static str,
    /// A column that must be false.
    unless: Option<&'static str>,
    within_days: i64,
}

/// Only one heavy scenario at a time: each keeps two cores busy.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of this test process; those of processes that ended are removed.
fn work_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("leadpulse");
        std::fs::create_dir_all(&parent).unwrap();
        for entry in std::fs::read_dir(&parent).unwrap().map_while(Result::ok) {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                // Another process may be removing it too.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let dir = parent.join(std::process::id().to_string());
        std::fs::create_dir_all(&dir).unwrap();
        dir
    })
}

/// The shipped CRM's schemas and sources, with a task in the place of its own: there are few deals
/// in a small market.
fn crm(name: &str, query: &str) -> toml::Table {
    let mut config = read_config(&repository().join("leadpulse.toml"));
    // Every row is known when it happens: a live run would read late rows that a backtest of the
    // moment before does not know yet.
    for source in config["sources"].as_array_mut().unwrap() {
        source.as_table_mut().unwrap().remove("known_time");
    }
    let task = format!("name = {name:?}\nquery = {query:?}\nanchors = \"every 10d\"");
    config.insert(
        "tasks".into(),
        Toml::Array(vec![Toml::Table(task.parse().unwrap())]),
    );
    config
}

/// A configuration with an absolute schemas folder.
pub fn read_config(path: &Path) -> toml::Table {
    let mut config: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let schemas = path
        .parent()
        .unwrap()
        .join(config["schemas"].as_str().unwrap());
    config.insert("schemas".into(), Toml::String(arg(&schemas).into()));
    config
}

/// Files of a simulated market.
fn market_files() -> PathBuf {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    FILES
        .get_or_init(|| {
            let data = work_dir().join("market");
            leadpulse(&[
                "simulate",
                "--accounts",
                "60",
                "--days",
                &MARKET_DAYS.to_string(),
                "--seed",
                "3",
                "--out",
                arg(&data),
            ])
            .done();
            data
        })
        .clone()
}

/// Accounts of a simulated market: will they meet us?
pub fn accounts() -> &'static Dataset {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    DATASET.get_or_init(|| {
        let task = "account-meetings-30d";
        let query = "PREDICT COUNT(activities.* WHERE activities.type = 'meeting', 0, 30, days) > 0 FOR EACH accounts.account_id";
        Dataset {
            config: crm(task, query),
            data: market_files(),
            task,
            bundle: PathBuf::new(),
            key: "account_id",
            population: Population { entities: "accounts.jsonl", time: "updated_at", active: None },
            midway: "2020-05-31",
            batches: 3,
            max_records: 100,
            largest: "activities",
            reference: OnceLock::new(),
        }
        .trained()
    })
}

/// Contacts of the same market, if they were active within 60 days: will they be active again?
pub fn contacts() -> &'static Dataset {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    DATASET.get_or_init(|| {
        let task = "contact-engages-14d";
        let query = "PREDICT COUNT(activities.*, 0, 14, days) > 0 FOR EACH contacts.contact_id WHERE COUNT(activities.*, -60, 0, days) > 0";
        let active = Active { events: "activities.jsonl", time: "occurred_at", unless: None, within_days: 60 };
        Dataset {
            config: crm(task, query),
            data: market_files(),
            task,
            bundle: PathBuf::new(),
            key: "contact_id",
            population: Population { entities: "contacts.jsonl", time: "updated_at", active: Some(active) },
            midway: "2020-05-31",
            batches: 3,
            max_records: 400,
            largest: "activities",
            reference: OnceLock::new(),
        }
        .trained()
    })
}

/// The first half year of online-retail-ii, where it lies beside the repository.
pub fn retail() -> Option<&'static Dataset> {
    static DATASET: OnceLock<Option<Dataset>> = OnceLock::new();
    DATASET
        .get_or_init(|| online_retail("2010-06-01", 2000))
        .as_ref()
}

/// The whole of online-retail-ii, where it lies beside the repository.
pub fn whole_retail() -> Option<&'static Dataset> {
    static DATASET: OnceLock<Option<Dataset>> = OnceLock::new();
    DATASET
        .get_or_init(|| online_retail("9999-12-31", 10_000))
        .as_ref()
}

fn online_retail(before: &str, max_records: usize) -> Option<Dataset> {
    // The files that `examples/online-retail-ii/prepare` makes, or those beside the repository.
    let places = [
        "examples/online-retail-ii/data",
        "../shared/data/online-retail-ii",
    ];
    let found = places.map(|place| repository().join(place));
    let Some(from) = found.into_iter().find(|place| place.exists()) else {
        eprintln!(
            "SKIPPED: the scenario on online-retail-ii: make its files with examples/online-retail-ii/prepare"
        );
        return None;
    };
    let data = work_dir().join(format!("online-retail-ii-{before}"));
    std::fs::create_dir_all(&data).unwrap();
    let files = [
        ("customers.csv", "first_seen"),
        ("products.csv", "first_seen"),
        ("invoices.csv.gz", "ts"),
        ("lines.csv.gz", "ts"),
    ];
    for (name, time) in files {
        cut(
            &from.join(name),
            &data.join(name.trim_end_matches(".gz")),
            time,
            before,
        );
    }
    let mut config = read_config(&repository().join("examples/online-retail-ii/leadpulse.toml"));
    config.remove("kafka");
    for source in config["sources"].as_array_mut().unwrap() {
        let file = source["file"]
            .as_str()
            .unwrap()
            .trim_end_matches(".gz")
            .to_owned();
        source
            .as_table_mut()
            .unwrap()
            .insert("file".into(), Toml::String(file));
    }
    let task = "account-revenue-30d";
    let tasks = config["tasks"].as_array_mut().unwrap();
    tasks.retain(|t| t["name"].as_str() == Some(task));
    let active = Active {
        events: "invoices.csv",
        time: "ts",
        unless: Some("is_cancel"),
        within_days: 365,
    };
    let dataset = Dataset {
        config,
        data,
        task,
        bundle: PathBuf::new(),
        key: "customer_id",
        population: Population {
            entities: "customers.csv",
            time: "first_seen",
            active: Some(active),
        },
        midway: "2010-05-01",
        batches: 1,
        max_records,
        largest: "lines",
        reference: OnceLock::new(),
    };
    Some(dataset.trained())
}

/// Copies the rows of a table of a time before a day.
fn cut(from: &Path, to: &Path, time: &str, before: &str) {
    let file = BufReader::new(File::open(from).unwrap());
    let reader: Box<dyn Read> = if from.extension().is_some_and(|e| e == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = csv::Reader::from_reader(reader);
    let mut writer = csv::Writer::from_path(to).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = header.iter().position(|name| name == time).unwrap();
    writer.write_record(&header).unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        if record[column] < *before {
            writer.write_record(&record).unwrap();
        }
    }
    writer.flush().unwrap();
}

impl Dataset {
    /// Trains the bundle, and sets a threshold that scores cross.
    fn trained(mut self) -> Self {
        self.set_task("fit", FIT);
        self.bundle = work_dir().join(format!(
            "{}.{}.bundle",
            self.data.file_name().unwrap().display(),
            self.task
        ));
        self.write_config();
        let (config, data) = (self.config_file(), arg(&self.data));
        leadpulse(&[
            "train",
            "--config",
            arg(&config),
            "--data",
            data,
            "--task",
            self.task,
            "--out",
            arg(&self.bundle),
            // A few rows teach a bundle to score, not to rank.
            "--force",
        ])
        .done();

        let midway_ms = parse_time_ms(self.midway).unwrap();
        let mut probabilities: Vec<f64> = self
            .backtest(midway_ms, &self.entities_at(midway_ms))
            .into_values()
            .collect();
        probabilities.sort_by(f64::total_cmp);
        let hot = probabilities[probabilities.len() * 9 / 10];
        let policy = format!(
            "bands = [{{ name = \"warm\", enter = {} }}, {{ name = \"hot\", enter = {hot} }}]\nhysteresis_ratio = 0.05\n\
             threshold_up = \"hot\"\nthreshold_down = \"hot\"",
            0.8 * hot
        );
        self.set_task("policy", &policy);
        self.write_config();
        self
    }

    fn set_task(&mut self, name: &str, section: &str) {
        let task = &mut self.config["tasks"].as_array_mut().unwrap()[0];
        task.as_table_mut()
            .unwrap()
            .insert(name.into(), Toml::Table(section.parse().unwrap()));
    }

    /// The configuration as a file.
    pub fn config_file(&self) -> PathBuf {
        self.bundle.with_extension("toml")
    }

    fn write_config(&self) {
        std::fs::write(self.config_file(), self.config.to_string()).unwrap();
    }

    /// The scores of `leadpulse backtest` for entities at a moment.
    pub fn backtest<'a>(
        &self,
        as_of_ms: i64,
        entities: impl IntoIterator<Item = &'a String>,
    ) -> BTreeMap<String, f64> {
        let dir = tempfile::tempdir().unwrap();
        let (config, rows, out) = (
            self.config_file(),
            dir.path().join("rows.csv"),
            dir.path().join("scored.csv"),
        );
        let mut writer = csv::Writer::from_path(&rows).unwrap();
        writer.write_record(["timestamp", self.key]).unwrap();
        for entity in entities {
            writer
                .write_record([&as_of_ms.to_string(), entity])
                .unwrap();
        }
        writer.flush().unwrap();
        let what = [
            "--config",
            arg(&config),
            "--data",
            arg(&self.data),
            "--model",
            arg(&self.bundle),
            "--task",
            self.task,
        ];
        leadpulse(
            &[
                &["backtest"],
                &what[..],
                &["--rows", arg(&rows), "--out", arg(&out)],
            ]
            .concat(),
        )
        .done();
        let mut scored = csv::Reader::from_path(out).unwrap();
        assert_eq!(
            scored.headers().unwrap(),
            vec!["timestamp", self.key, "probability"]
        );
        scored
            .records()
            .map(|row| row.unwrap())
            .filter_map(|row| Some((row[1].to_owned(), row[2].parse().ok()?)))
            .collect()
    }

    /// Folders of the batches' files, in order of time.
    pub fn batches(&self, catalog: &Catalog) -> Vec<PathBuf> {
        if self.batches == 1 {
            return vec![self.data.clone()];
        }
        let mut rows: Vec<(i64, &str, String)> = Vec::new();
        let sources = self.config["sources"].as_array().unwrap();
        for source in sources {
            let table = catalog.table(source["table"].as_str().unwrap()).unwrap();
            let (file, time) = (
                source["file"].as_str().unwrap(),
                &table.field_at(table.time.unwrap()).name,
            );
            let path = self.data.join(file);
            let is_optional = source.get("optional").and_then(Toml::as_bool);
            if is_optional == Some(true) && !path.exists() {
                continue;
            }
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let row: Json = serde_json::from_str(line).unwrap();
                rows.push((row[time].as_i64().unwrap(), file, format!("{line}\n")));
            }
        }
        // Stable: rows of a file keep their order.
        rows.sort_by_key(|(time, ..)| *time);
        // Cut between days: a closing tick is at the next full hour, and no row of the next batch
        // may lie before it.
        let day = |row: &(i64, &str, String)| row.0.div_euclid(DAY_MS);
        let (first, days) = (
            day(&rows[0]),
            day(&rows[rows.len() - 1]) - day(&rows[0]) + 1,
        );
        let batch_of =
            |time: i64| ((time.div_euclid(DAY_MS) - first) * self.batches as i64 / days) as usize;
        let dirs: Vec<PathBuf> = (0..self.batches)
            .map(|n| self.data.with_extension(format!("batch-{n}")))
            .collect();
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (time, file, line) in rows {
            files
                .entry(dirs[batch_of(time)].join(file))
                .or_default()
                .push_str(&line);
        }
        dirs.iter()
            .for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        files
            .into_iter()
            .for_each(|(path, text)| std::fs::write(path, text).unwrap());
        dirs
    }

    /// The values of some columns as text, for every row of a file.
    fn rows<const N: usize>(&self, file: &str, columns: [&str; N]) -> Vec<[String; N]> {
        let path = self.data.join(file);
        if path.extension().is_some_and(|e| e == "csv") {
            let mut reader = csv::Reader::from_path(path).unwrap();
            let header = reader.headers().unwrap().clone();
            let places =
                columns.map(|column| header.iter().position(|name| name == column).unwrap());
            return reader
                .records()
                .map(|record| record.unwrap())
                .map(|record| places.map(|place| record[place].to_owned()))
                .collect();
        }
        let text = |value: &Json| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let rows = std::fs::read_to_string(path).unwrap();
        rows.lines()
            .map(|line| serde_json::from_str::<Json>(line).unwrap())
            .map(|row| columns.map(|column| text(&row[column])))
            .collect()
    }

    /// Every key known at a moment.
    pub fn entities_at(&self, as_of_ms: i64) -> BTreeSet<String> {
        let rows = self.rows(self.population.entities, [self.key, self.population.time]);
        rows.into_iter()
            .filter(|[_, time]| parse_time_ms(time).unwrap() <= as_of_ms)
            .map(|[key, _]| key)
            .collect()
    }

    /// Keys named by a field of a table, beside the rows that name them; none where the table has
    /// no such field.
    fn named(&self, table: &str, field: &str, key: &str) -> Vec<(String, String)> {
        let file = format!("{table}.jsonl");
        if !self.data.join(&file).exists() {
            return Vec::new();
        }
        let rows = self
            .rows(&file, [field, key])
            .into_iter()
            .filter(|[named, _]| named != "null");
        rows.map(|[named, key]| (named, key)).collect()
    }

    /// Pairs of an entity and its duplicate.
    pub fn merged(&self) -> Vec<(String, String)> {
        self.named(
            self.population.entities.trim_end_matches(".jsonl"),
            "merged_into_id",
            self.key,
        )
    }

    /// The entities that must be scored at a moment, and those that may be: windows are of whole
    /// days. A merged entity counts as the survivor, with its events. An entity with a retracted
    /// event may be active or not.
    pub fn population_at(&self, as_of_ms: i64) -> (BTreeSet<String>, BTreeSet<String>) {
        let entities = self.entities_at(as_of_ms);
        let merged = self.merged();
        let absorbed: BTreeSet<&String> = merged.iter().map(|(_, absorbed)| absorbed).collect();
        let without = |keys: &BTreeSet<String>| -> BTreeSet<String> {
            keys.iter()
                .filter(|key| !absorbed.contains(key))
                .cloned()
                .collect()
        };
        let Some(active) = &self.population.active else {
            return (without(&entities), entities);
        };
        let rows = self.rows(
            active.events,
            [self.key, active.time, active.unless.unwrap_or(self.key)],
        );
        let within = |days: i64| -> BTreeSet<String> {
            let past = as_of_ms - days * DAY_MS + 1..=as_of_ms;
            let counts = |unless: &str| active.unless.is_none() || matches!(unless, "0" | "false");
            let rows = rows.iter().filter(|[_, time, unless]| {
                past.contains(&parse_time_ms(time).unwrap()) && counts(unless)
            });
            rows.map(|[key, ..]| key.clone())
                .filter(|key| entities.contains(key))
                .collect()
        };
        let taken_back: BTreeSet<String> = self
            .named(
                active.events.trim_end_matches(".jsonl"),
                "retracted",
                self.key,
            )
            .into_iter()
            .map(|(_, key)| key)
            .collect();
        let must = without(&within(active.within_days - 1))
            .difference(&taken_back)
            .cloned()
            .collect();
        let mut may = within(active.within_days + 1);
        may.extend(merged.iter().map(|(survivor, _)| survivor.clone()));
        may.extend(
            self.named("leads", &format!("converted_{}", self.key), "lead_id")
                .into_iter()
                .map(|(contact, _)| contact),
        );
        (must, may)
    }
}
