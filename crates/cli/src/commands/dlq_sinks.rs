//! `leadpulse dlq sinks`: the dead letters of sinks.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;
use serde_json::{Value, json};

use leadpulse_deployment::{BuriedRecord, read_sink_letters};

use crate::commands::{ClusterArguments, date};
use crate::output::JsonArgument;

/// Arguments of `dlq sinks`.
#[derive(clap::Args)]
pub struct SinkArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Only letters of these sinks, such as webhook.ops.
    #[arg(long, value_delimiter = ',')]
    sink: Vec<String>,
    /// The newest letters to list, at most. All are counted.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    json: JsonArgument,
}

impl SinkArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let loaded = self.cluster.load()?;
        let mut by_sink: BTreeMap<String, u64> = BTreeMap::new();
        let mut newest: VecDeque<BuriedRecord> = VecDeque::new();
        read_sink_letters(&loaded, &mut |letter| {
            if !self.sink.is_empty() && !self.sink.contains(&letter.sink) {
                return;
            }
            *by_sink.entry(letter.sink.clone()).or_default() += 1;
            newest.push_back(letter);
            if newest.len() > self.limit {
                newest.pop_front();
            }
        })?;
        for letter in &newest {
            say!("{}", in_words(letter));
        }
        say!("letters      {}", by_sink.values().sum::<u64>());
        for (sink, count) in &by_sink {
            say!("by sink      {count} {sink}");
        }
        self.json.print(|| {
            let letters: Vec<Value> = newest.iter().map(as_json).collect();
            Ok(json!({ "letters": letters, "by_sink": by_sink }))
        })
    }
}

fn in_words(letter: &BuriedRecord) -> String {
    let (at, key) = (date(letter.timestamp_ms), key_of(letter));
    let BuriedRecord {
        place,
        sink,
        reason,
        record,
        ..
    } = letter;
    format!("{place}  {at}  {sink}  {record}  {key}: {reason}")
}

fn as_json(letter: &BuriedRecord) -> Value {
    json!({
        "letter": letter.place.to_string(),
        "sink": letter.sink,
        "reason": letter.reason,
        "record": letter.record,
        "timestamp": letter.timestamp_ms,
        "key": key_of(letter),
        "value_bytes": letter.value.as_ref().map(Vec::len),
    })
}

fn key_of(letter: &BuriedRecord) -> String {
    String::from_utf8_lossy(letter.key.as_deref().unwrap_or_default()).into_owned()
}
