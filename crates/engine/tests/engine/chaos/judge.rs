//! The judge of a history: reads the committed logs as any consumer would, and shares no code with the
//! engine. Output records are decoded by their schemas as JSON.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_engine::ports::{Output, OutputRecord};
use serde_json::Value as Json;

use super::super::broker::Message;
use super::super::ticks::Told;
use super::coordinator::SimTransaction;

/// Everything that was there at the end.
pub struct Evidence<'a> {
    pub transactions: &'a [SimTransaction],
    /// The records that readers of committed records could see, by partition in order of coming.
    pub input: &'a [Vec<Message>],
    /// First offsets of the partitions.
    pub starts: &'a [i64],
    /// Topic and number of the partitions.
    pub places: &'a [(String, i32)],
    pub decode: &'a dyn Fn(&OutputRecord) -> Json,
}

/// The facts of a history that other histories are compared with.
#[derive(Debug, Default)]
pub struct Findings {
    pub epochs: u64,
    pub records: u64,
    /// Partition and offset of dead letters, with the reason.
    pub dead: BTreeMap<(usize, i64), String>,
    pub told: Told,
    /// Processes that committed epochs.
    pub owners: BTreeSet<String>,
    /// Moment of the closing tick.
    pub closed_at: Option<i64>,
}

/// Partition and offset of a record, with the reason of its dead letter.
type PlacedReason = ((usize, i64), String);

/// The first broken rule, in words.
pub type Broken = String;

/// Ends with the broken rule unless it holds.
macro_rules! hold {
    ($holds:expr, $($words:tt)*) => {
        if !$holds { return Err(format!($($words)*)); }
    };
}

/// The state of the judge between two epochs.
#[derive(Default)]
struct Sofar {
    number: i64,
    as_of: i64,
    tick: Option<i64>,
    /// Next offset of each partition.
    at: Vec<i64>,
    nonces: BTreeSet<String>,
    alerts: BTreeSet<String>,
}

/// Judges a history that ended with a run to the end.
///
/// # Errors
/// The first broken rule.
pub fn judge(evidence: &Evidence<'_>) -> Result<Findings, Broken> {
    let (mut sofar, mut findings) = (Sofar::default(), Findings::default());
    let mut standing: Option<(u64, String)> = None;
    for transaction in evidence.transactions {
        let group = transaction.offsets.as_ref();
        let Some(group) = group else {
            return Err(format!(
                "{} records are committed without positions",
                transaction.records.len()
            ));
        };
        let metadata = (group.metadata.number, group.metadata.nonce.to_string());
        if transaction.records.is_empty() {
            // A token: everything but the owner stays.
            let is_same = standing.as_ref().is_none_or(|before| *before == metadata);
            hold!(is_same, "a token changes {standing:?} to {metadata:?}");
        } else {
            let epoch = epoch_of(evidence, transaction)?;
            let number = epoch["epoch"].as_i64().unwrap_or_default();
            hold!(
                (number as u64, text(&epoch, "nonce")) == metadata,
                "the record of epoch {number} is committed under {metadata:?}"
            );
            let ends: Vec<i64> = numbers(&epoch["partitions"], "end");
            let positions: Vec<i64> = group.positions.iter().map(|at| at.0).collect();
            hold!(
                ends == positions,
                "epoch {number} ends at {ends:?}, positions are {positions:?}"
            );
            one_epoch(evidence, transaction, &epoch, &mut sofar, &mut findings)?;
        }
        standing = Some(metadata);
    }
    for (partition, messages) in evidence.input.iter().enumerate() {
        let at = sofar.at.get(partition).copied().unwrap_or(0);
        let left = messages.iter().filter(|it| it.offset >= at).count();
        hold!(
            left == 0,
            "{left} records of partition {partition} were never read"
        );
    }
    findings.epochs = sofar.number as u64;
    Ok(findings)
}

/// The one epoch record of a transaction.
fn epoch_of(evidence: &Evidence<'_>, transaction: &SimTransaction) -> Result<Json, Broken> {
    let of_epochs = transaction.records.iter();
    let mut of_epochs = of_epochs.filter(|record| record.output == Output::Epochs);
    let (Some(record), None) = (of_epochs.next(), of_epochs.next()) else {
        return Err("a transaction has not one epoch record".to_owned());
    };
    Ok((evidence.decode)(record))
}

fn one_epoch(
    evidence: &Evidence<'_>,
    transaction: &SimTransaction,
    epoch: &Json,
    sofar: &mut Sofar,
    findings: &mut Findings,
) -> Result<(), Broken> {
    let number = epoch["epoch"].as_i64().unwrap_or_default();
    hold!(
        number == sofar.number + 1,
        "epoch {number} follows epoch {}",
        sofar.number
    );
    hold!(
        sofar.nonces.insert(text(epoch, "nonce")),
        "the nonce of epoch {number} came before"
    );
    let as_of = epoch["as_of"].as_i64().unwrap_or_default();
    hold!(
        as_of >= sofar.as_of,
        "epoch {number} goes back from {} to {as_of}",
        sofar.as_of
    );
    let from = tiled(evidence, epoch, sofar)?;
    ticks(epoch, &from, sofar)?;
    let letters = dead_letters(evidence, transaction, &from, &sofar.at)?;
    outcomes(evidence, epoch, &from, sofar, letters.len() as i64)?;
    for (place, reason) in letters {
        let before = findings.dead.insert(place, reason);
        hold!(before.is_none(), "{place:?} is dead-lettered twice");
    }
    let of = |output| {
        transaction
            .records
            .iter()
            .filter(move |it| it.output == output)
    };
    for (output, field) in [(Output::Scores, "scores"), (Output::Alerts, "alerts")] {
        let count = of(output).count() as i64;
        let said = epoch[field].as_i64().unwrap_or_default();
        hold!(
            count == said,
            "epoch {number} has {count} {field} and counts {said}"
        );
    }
    for alert in of(Output::Alerts).map(evidence.decode) {
        let id = text(&alert, "alert_id");
        hold!(
            sofar.alerts.insert(id.clone()),
            "the alert {id} is told twice"
        );
        let at = alert["as_of"].as_i64().unwrap_or_default();
        findings.told.insert((id, text(&alert, "severity"), at));
    }
    findings.records += numbers(&epoch["partitions"], "read").iter().sum::<i64>() as u64;
    findings.owners.insert(text(epoch, "owner"));
    if epoch["closing"].as_bool() == Some(true) {
        findings.closed_at = Some(as_of);
    }
    (sofar.number, sofar.as_of) = (number, as_of);
    Ok(())
}

/// Intervals start where those of the epoch before ended. Returns the starts; `sofar` has the ends.
fn tiled(evidence: &Evidence<'_>, epoch: &Json, sofar: &mut Sofar) -> Result<Vec<i64>, Broken> {
    let number = &epoch["epoch"];
    let (from, to) = (
        numbers(&epoch["partitions"], "start"),
        numbers(&epoch["partitions"], "end"),
    );
    hold!(
        from.len() >= sofar.at.len(),
        "epoch {number} reads fewer partitions"
    );
    for (partition, start) in from.iter().enumerate() {
        let at = sofar.at.get(partition);
        let expected = at.copied().unwrap_or_else(|| evidence.starts[partition]);
        hold!(
            *start == expected && to[partition] >= *start,
            "epoch {number} reads partition {partition} from {start}, not from {expected}"
        );
    }
    sofar.at = to;
    Ok(from)
}

/// Ticks ascend over all epochs; their positions lie within the epoch.
fn ticks(epoch: &Json, from: &[i64], sofar: &mut Sofar) -> Result<(), Broken> {
    let number = &epoch["epoch"];
    for closing in epoch["ticks"].as_array().into_iter().flatten() {
        let tick = closing["tick"].as_i64().unwrap_or_default();
        let ascends = sofar.tick.is_none_or(|before| before < tick);
        hold!(
            ascends,
            "epoch {number} closes {tick} after {:?}",
            sofar.tick
        );
        sofar.tick = Some(tick);
        let positions = closing["positions"].as_array().into_iter().flatten();
        for (partition, at) in positions.enumerate() {
            let at = at.as_i64().unwrap_or_default();
            let within = from[partition] <= at && at <= sofar.at[partition];
            hold!(
                within,
                "tick {tick} of epoch {number} lies outside the epoch"
            );
        }
    }
    Ok(())
}

/// The dead letters of an epoch: each is a record of one of its intervals, byte for byte.
fn dead_letters(
    evidence: &Evidence<'_>,
    transaction: &SimTransaction,
    from: &[i64],
    to: &[i64],
) -> Result<Vec<PlacedReason>, Broken> {
    let mut letters = Vec::new();
    let all = transaction.records.iter();
    for letter in all.filter(|record| record.output == Output::DeadLetters) {
        let header = |name: &str| {
            let found = letter.headers.iter().rfind(|(found, _)| found == name);
            let value = found
                .and_then(|(_, value)| value.clone())
                .unwrap_or_default();
            String::from_utf8(value).unwrap_or_default()
        };
        let topic = header("__connect.errors.topic");
        let number: i32 = header("__connect.errors.partition").parse().unwrap_or(-1);
        let offset: i64 = header("__connect.errors.offset").parse().unwrap_or(-1);
        let mut places = evidence.places.iter();
        let found = places.position(|place| *place == (topic.clone(), number));
        let Some(partition) = found else {
            return Err(format!("a dead letter of {topic}/{number}"));
        };
        let within = from[partition] <= offset && offset < to[partition];
        hold!(
            within,
            "the dead letter of {topic}/{number}@{offset} is of another epoch"
        );
        let mut messages = evidence.input[partition].iter();
        let Some(original) = messages.find(|it| it.offset == offset) else {
            return Err(format!("{topic}/{number}@{offset} was never there"));
        };
        hold!(
            (&letter.key, &letter.value) == (&original.key, &original.value),
            "the dead letter of {topic}/{number}@{offset} has other bytes"
        );
        letters.push(((partition, offset), header("x-dlq-reason")));
    }
    Ok(letters)
}

/// Every record of the intervals has one outcome.
fn outcomes(
    evidence: &Evidence<'_>,
    epoch: &Json,
    from: &[i64],
    sofar: &Sofar,
    letters: i64,
) -> Result<(), Broken> {
    let number = &epoch["epoch"];
    let read = numbers(&epoch["partitions"], "read");
    for (partition, messages) in evidence.input.iter().enumerate().take(from.len()) {
        let within =
            |it: &&Message| from[partition] <= it.offset && it.offset < sofar.at[partition];
        let there = messages.iter().filter(within).count() as i64;
        hold!(
            there == read[partition],
            "epoch {number} read {} records of partition {partition}, {there} are there",
            read[partition]
        );
    }
    let sum = |field: &str| numbers(&epoch[field], "count").iter().sum::<i64>();
    let count = |field: &str| epoch[field].as_i64().unwrap_or_default();
    let dead = sum("dead_lettered");
    hold!(
        dead == letters,
        "epoch {number} counts {dead} dead letters and has {letters}"
    );
    let all = count("accepted") + count("duplicate") + sum("unchanged") + dead;
    let there: i64 = read.iter().sum();
    hold!(
        all == there,
        "epoch {number} read {there} records, {all} have an outcome"
    );
    Ok(())
}

fn text(json: &Json, field: &str) -> String {
    json[field].as_str().unwrap_or_default().to_owned()
}

/// The values of a field of every item.
fn numbers(items: &Json, field: &str) -> Vec<i64> {
    let items = items.as_array().into_iter().flatten();
    items
        .map(|item| item[field].as_i64().unwrap_or_default())
        .collect()
}
