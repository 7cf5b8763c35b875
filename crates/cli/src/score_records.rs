//! Files of score records, as consumers of the scores topic write them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use leadpulse_learn::{ScoreLog, ScoreRecord};
use leadpulse_project::TaskPlan;

/// The first bytes of an Avro container file.
const AVRO_MAGIC: &[u8; 4] = b"Obj\x01";

/// The records of a file.
pub struct ScoreFile {
    pub log: ScoreLog,
    /// Records of the tasks that were asked for.
    pub records: usize,
    /// Records of other tasks, by name.
    pub others: BTreeMap<String, usize>,
}

/// Reads a file of score records: an Avro container, or JSON lines with plain values or in Avro's
/// JSON encoding. Records of tasks that are not among those given are counted.
///
/// # Errors
/// A file that cannot be read; a record without task, key, moment or status, with its place.
pub fn read(path: &Path, tasks: &[&TaskPlan]) -> Result<ScoreFile> {
    let name = path.display();
    let open = || -> std::io::Result<(File, bool)> {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        Ok((file, magic == AVRO_MAGIC))
    };
    let (file, is_avro) =
        open().with_context(|| format!("{name} cannot be read; check --scores and --against"))?;
    let mut records = Vec::new();
    let mut others = BTreeMap::new();
    let mut add = |value: &Value, place: String| -> Result<()> {
        let read = record(value, tasks).with_context(|| {
            format!("{name}, {place} is no score record; write records of the scores topic")
        })?;
        match read {
            Ok(record) => records.push(record),
            Err(task) => *others.entry(task).or_default() += 1,
        }
        Ok(())
    };
    if is_avro {
        let reader = apache_avro::Reader::new(BufReader::new(file))
            .with_context(|| format!("{name} is no whole Avro container; write it again"))?;
        for (index, value) in reader.enumerate() {
            let place = format!("record {}", index + 1);
            let value = value.with_context(|| format!("{name}, {place} cannot be decoded"))?;
            let value = Value::try_from(value).with_context(|| format!("{name}, {place}"))?;
            add(&value, place)?;
        }
    } else {
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let place = format!("line {}", index + 1);
            let line = line.with_context(|| format!("{name}, {place} cannot be read as text"))?;
            if line.trim().is_empty() {
                continue;
            }
            let value = serde_json::from_str(&line).with_context(|| {
                format!("{name}, {place} is no JSON; write one score record a line")
            })?;
            add(&value, place)?;
        }
    }
    Ok(ScoreFile {
        records: records.len(),
        log: ScoreLog::new(records),
        others,
    })
}

/// A record of one of the tasks, or the name of another task.
fn record(value: &Value, tasks: &[&TaskPlan]) -> Result<Result<ScoreRecord, String>> {
    let fields = value.as_object().context("it is no object")?;
    let task = text(fields, "task")?;
    let Some(index) = tasks.iter().position(|known| known.name == task) else {
        return Ok(Err(task.to_owned()));
    };
    let place = |name| {
        let value = plain(fields.get(name).unwrap_or(&Value::Null));
        value.as_i64().unwrap_or(0)
    };
    Ok(Ok(ScoreRecord {
        task: index,
        key: text(fields, "entity_id")?.to_owned(),
        at_ms: moment(fields)?,
        place: (place("epoch"), place("sequence")),
        probability: probability(fields)?,
    }))
}

/// A value without the name of its branch, which Avro's JSON encoding puts around values of unions.
fn plain(value: &Value) -> &Value {
    match value.as_object() {
        Some(branch) if branch.len() == 1 => branch.values().next().unwrap_or(value),
        _ => value,
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str> {
    let value = fields.get(name).map(plain);
    let value = value.and_then(Value::as_str);
    value.ok_or_else(|| anyhow!("{name} is missing, or is no text"))
}

/// The moment of a record: milliseconds since 1970, or a time in words.
fn moment(fields: &Map<String, Value>) -> Result<i64> {
    match plain(fields.get("as_of").unwrap_or(&Value::Null)) {
        Value::Number(ms) => ms.as_i64(),
        Value::String(text) => leadpulse_schema::parse_time_ms(text),
        _ => None,
    }
    .context("as_of is missing, or is neither milliseconds since 1970 nor a time")
}

/// The probability of a scored record; `None` of an ineligible one.
fn probability(fields: &Map<String, Value>) -> Result<Option<f64>> {
    match text(fields, "status")? {
        "ineligible" => Ok(None),
        "scored" => {
            let value = plain(fields.get("probability").unwrap_or(&Value::Null));
            let value = value.as_f64().filter(|p| (0.0..=1.0).contains(p));
            value
                .map(Some)
                .context("probability is missing, or is no number from 0 to 1")
        }
        other => bail!("status is {other:?}, neither scored nor ineligible"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_plain_or_carry_the_name_of_their_branch() {
        let plain_record = json!({"task": "t", "entity_id": "a", "as_of": 5, "epoch": 2,
            "sequence": 1, "status": "scored", "probability": 0.25});
        let encoded = json!({"task": "t", "entity_id": "a", "as_of": {"long": 5}, "epoch": 2,
            "sequence": 1, "status": "scored", "probability": {"double": 0.25}});
        for value in [plain_record, encoded] {
            let fields = value.as_object().unwrap();
            assert_eq!(moment(fields).unwrap(), 5);
            assert_eq!(probability(fields).unwrap(), Some(0.25));
        }
        let words = json!({"as_of": "1970-01-02", "status": "ineligible", "probability": null});
        let fields = words.as_object().unwrap();
        assert_eq!(moment(fields).unwrap(), 86_400_000);
        assert_eq!(probability(fields).unwrap(), None);
    }

    #[test]
    fn records_that_say_nothing_are_refused_with_the_field() {
        for (value, named) in [
            (json!({"status": "scored"}), "probability"),
            (
                json!({"status": "scored", "probability": 1.5}),
                "probability",
            ),
            (json!({"status": "unknown"}), "status"),
            (json!({}), "status"),
        ] {
            let error = probability(value.as_object().unwrap()).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        assert!(moment(json!({"as_of": true}).as_object().unwrap()).is_err());
    }
}
