//! `leadpulse dlq`: dead letters listed, shown, sent again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::json;

use leadpulse_deployment::{
    Judgement, LetterBox, LetterFilter, LetterJudge, Loaded, Pace, ReplayPlan, writer_schemas,
};
use leadpulse_engine::{LetterPlace, Reason, ShownLetter, WholeLetter};

use crate::commands::dlq_sinks::SinkArguments;
use crate::commands::{ClusterArguments, date, parse_moment};
use crate::output::JsonArgument;

/// `dlq` and its subcommands.
#[derive(clap::Subcommand)]
pub enum DlqArguments {
    /// Lists dead letters, the newest last, and counts them by reason and topic.
    List(ListArguments),
    /// Prints one dead letter, and the fate that its record would have now.
    Show(ShowArguments),
    /// Sends the records of dead letters to their topics again, each at most once.
    Replay(ReplayLettersArguments),
    /// Lists the dead letters of the sinks of `leadpulse deliver`, and counts them by sink.
    Sinks(SinkArguments),
}

impl DlqArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Sinks(command) => command.run(),
        }
    }
}

/// The filters of `list` and `replay`.
#[derive(clap::Args)]
struct FilterArguments {
    /// Only letters of these reasons, such as avro_decode.
    #[arg(long, value_delimiter = ',', value_parser = parse_reason)]
    reason: Vec<String>,
    /// Only letters of records from these topics.
    #[arg(long, value_delimiter = ',')]
    topic: Vec<String>,
    /// Only letters of records from topics that feed these tables.
    #[arg(long, value_delimiter = ',')]
    table: Vec<String>,
    /// Only letters refused at this time or later, e.g. 2011-09-09T12:00:00Z. The time is the as_of
    /// of the epoch that refused the record.
    #[arg(long, value_parser = parse_moment)]
    since: Option<i64>,
    /// Only letters refused before this time.
    #[arg(long, value_parser = parse_moment)]
    until: Option<i64>,
}

impl FilterArguments {
    fn filter(&self, loaded: &Loaded) -> Result<LetterFilter> {
        let filter = LetterFilter {
            reasons: self.reason.clone(),
            topics: self.topic.clone(),
            since_ms: self.since,
            until_ms: self.until,
        };
        if self.table.is_empty() {
            return Ok(filter);
        }
        let catalog = loaded.catalog()?;
        Ok(filter.of_tables(&self.table, loaded, &catalog)?)
    }
}

fn parse_reason(text: &str) -> Result<String, String> {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    match codes.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} is no reason of dead letters; write one of {}",
            codes.join(", ")
        )),
    }
}

/// Arguments of `dlq list`.
#[derive(clap::Args)]
pub struct ListArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// The newest letters to list, at most. All are counted.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Prints a line of JSON for each letter, and one for the counts.
    #[arg(long)]
    json: bool,
}

/// A line of the list.
struct Line {
    place: LetterPlace,
    refused_ms: i64,
    record: String,
    reason: String,
    message: String,
    first: Option<LetterPlace>,
}

impl Line {
    fn of(letter: &WholeLetter) -> Self {
        let about = &letter.about;
        Self {
            place: letter.place,
            refused_ms: letter.refused_ms(),
            record: format!("{}/{}@{}", about.topic, about.partition, about.offset),
            reason: about.reason.clone(),
            message: about.message.clone(),
            first: letter.first(),
        }
    }

    fn say(&self, is_replayed: bool, as_json: bool) {
        if as_json {
            let line = json!({
                "letter": self.place.to_string(),
                "refused_as_of": self.refused_ms,
                "record": self.record,
                "reason": self.reason,
                "message": self.message,
                "replayed": is_replayed,
                "first_letter": self.first.map(|place| place.to_string()),
            });
            say!("{line}");
            return;
        }
        let replayed = if is_replayed { "  replayed" } else { "" };
        let first = self.first.map(|place| format!("  first letter {place}"));
        say!(
            "{}  {}  {}  {}: {}{replayed}{}",
            self.place,
            date(self.refused_ms),
            self.record,
            self.reason,
            self.message,
            first.unwrap_or_default()
        );
    }
}

impl ListArguments {
    fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let filter = self.filter.filter(&loaded)?;
        let (mut by_reason, mut by_topic) = (BTreeMap::new(), BTreeMap::new());
        let mut newest: BTreeMap<(i64, LetterPlace), Line> = BTreeMap::new();
        let mut matching = BTreeSet::new();
        let replayed = LetterBox::of(&loaded)?.read(&mut |letter| {
            if filter.passes(&letter) {
                matching.insert(letter.place);
                let about = &letter.about;
                *by_reason.entry(about.reason.clone()).or_insert(0_u64) += 1;
                *by_topic.entry(about.topic.clone()).or_insert(0_u64) += 1;
                let line = Line::of(&letter);
                newest.insert((line.refused_ms, line.place), line);
                if newest.len() > self.limit {
                    newest.pop_first();
                }
            }
            Ok(())
        })?;
        for line in newest.values() {
            line.say(replayed.contains(&line.place), self.json);
        }
        let sent_again = matching.intersection(&replayed).count();
        if self.json {
            let summary = json!({
                "letters": matching.len(),
                "replayed": sent_again,
                "by_reason": by_reason,
                "by_topic": by_topic,
            });
            say!("{}", json!({ "summary": summary }));
            return Ok(());
        }
        say!(
            "letters      {}, {sent_again} of them sent again",
            matching.len()
        );
        for (name, counts) in [("by reason", by_reason), ("by topic", by_topic)] {
            for (what, count) in counts {
                say!("{name:<12} {count} {what}");
            }
        }
        Ok(())
    }
}

/// Arguments of `dlq show`.
#[derive(clap::Args)]
pub struct ShowArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The letter: PARTITION:OFFSET in the dead-letter topic, as `dlq list` prints it.
    letter: LetterPlace,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

impl ShowArguments {
    fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let found = LetterBox::of(&loaded)?.find(self.letter)?;
        let (letter, is_replayed) = found.with_context(|| {
            format!(
                "there is no dead letter at {}; `leadpulse dlq list` prints the places of all",
                self.letter
            )
        })?;
        let schemas = writer_schemas(&loaded)?;
        let shown = letter.about.shown(|schema| {
            let found = schemas.lookup(schema).map_err(|error| error.to_string())?;
            Ok(found.text.to_string())
        });
        let now = LetterJudge::new(&loaded, schemas)?.judge(&letter);
        if self.json {
            let line = json!({
                "letter": self.letter.to_string(),
                "replayed": is_replayed,
                "first_letter": letter.first().map(|place| place.to_string()),
                "record": shown,
                "now": now,
            });
            say!("{line}");
            return Ok(());
        }
        say_letter(&letter, &shown, is_replayed);
        say_judgement(&now);
        Ok(())
    }
}

fn say_letter(letter: &WholeLetter, shown: &ShownLetter, is_replayed: bool) {
    let about = &letter.about;
    say!("letter       {}", letter.place);
    say!(
        "record       {}/{}@{}, timestamp {}",
        about.topic,
        about.partition,
        about.offset,
        date(about.timestamp_ms)
    );
    say!("refused      as of {}", date(letter.refused_ms()));
    say!("reason       {}: {}", about.reason, about.message);
    if !shown.remedy.is_empty() {
        say!("remedy       {}", shown.remedy);
    }
    if let Some(first) = letter.first() {
        say!("first letter {first}");
    }
    let replayed = if is_replayed { "sent again" } else { "no" };
    say!("replayed     {replayed}");
    for header in &shown.headers {
        let value = header.value.as_deref().unwrap_or("null");
        say!("header       {} = {value}", header.name);
    }
    if shown.more_headers > 0 {
        say!("header       and {} more", shown.more_headers);
    }
    for (name, part) in [("key", &shown.key), ("value", &shown.value)] {
        let Some(part) = part else {
            say!("{name:<12} null");
            continue;
        };
        let content = part.content.as_ref().map(ToString::to_string);
        let content = content.or_else(|| part.text.clone()).unwrap_or_default();
        let remark = part.remark.as_ref().map(|remark| format!(" ({remark})"));
        say!(
            "{name:<12} {} bytes, {}: {content}{}",
            part.bytes,
            part.format,
            remark.unwrap_or_default()
        );
    }
}

fn say_judgement(now: &Judgement) {
    let fate = if now.is_accepted {
        "accepted"
    } else {
        "refused"
    };
    say!("now          {fate}: {}: {}", now.outcome, now.why);
    if let Some(remark) = now.remark {
        say!("remark       {remark}");
    }
    for verdict in &now.rows {
        let Some(row) = &verdict.row else { continue };
        say!(
            "row          {} {} of {}, at {}; belongs to {}",
            verdict.table,
            row.operation,
            row.key,
            row.event_time,
            row.owner
        );
    }
}

/// Arguments of `dlq replay`.
#[derive(clap::Args)]
pub struct ReplayLettersArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// Replays every letter, where no filter is given.
    #[arg(long)]
    all: bool,
    /// Also sends records that were sent again before and were refused again.
    #[arg(long)]
    again: bool,
    /// Records a second, at most.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Judges the letters under the schemas and the configuration of now, and sends nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    json: JsonArgument,
}

impl ReplayLettersArguments {
    fn run(self) -> Result<()> {
        self.json.begin();
        let Some(pace) = Pace::of(self.rate) else {
            bail!("--rate {}: write a number above 0", self.rate);
        };
        let loaded = self.cluster.load()?;
        let filter = self.filter.filter(&loaded)?;
        if filter.is_empty() && !self.all {
            bail!(
                "a replay of every dead letter needs --all; or choose letters with --reason, --topic, --table, \
                 --since, --until"
            );
        }
        let catalog = loaded.catalog()?;
        let inputs = loaded.inputs(&catalog)?;
        let sources = inputs.into_iter().map(|input| input.topic).collect();
        let letters = LetterBox::of(&loaded)?;
        let plan = letters.plan(&filter, &sources, self.again)?;
        say_plan(&plan);
        if self.dry_run {
            let accepted = dry_run(&loaded, &letters, &plan)?;
            return self.json.print(|| {
                Ok(json!({ "letters": plan.letters.len(), "accepted_now": accepted, "sent": 0 }))
            });
        }
        let done = letters
            .replay(&plan, pace, &mut |sent| {
                tracing::info!(sent, of = plan.letters.len(), "replaying");
            })
            .context(
                "the replay ended early; letters sent before stay sent, and the same command goes on",
            )?;
        say!("sent         {}", done.sent);
        if done.sent_by_others > 0 {
            say!("by others    {} in the meantime", done.sent_by_others);
        }
        self.json.print(|| {
            Ok(json!({
                "letters": plan.letters.len(),
                "sent": done.sent,
                "sent_by_others": done.sent_by_others,
            }))
        })
    }
}

fn say_plan(plan: &ReplayPlan) {
    say!("to send      {}", plan.letters.len());
    for (name, count, what) in [
        ("replayed", plan.replayed, "sent again before"),
        (
            "refused again",
            plan.refused_again,
            "after they were sent again: --again sends them once more",
        ),
        (
            "incomplete",
            plan.incomplete,
            "without all bytes of the record: produce them from the source",
        ),
        (
            "no source",
            plan.without_source,
            "of topics that no source reads",
        ),
    ] {
        if count > 0 {
            say!("{name:<13} {count} {what}");
        }
    }
}

/// Counts the fates that the letters of a plan would have now. Returns how many would be accepted.
fn dry_run(loaded: &Loaded, letters: &LetterBox, plan: &ReplayPlan) -> Result<u64> {
    let mut judge = LetterJudge::new(loaded, writer_schemas(loaded)?)?;
    let mut outcomes: BTreeMap<(bool, String), u64> = BTreeMap::new();
    let mut remarks: BTreeMap<&'static str, u64> = BTreeMap::new();
    letters.read(&mut |letter| {
        if plan.letters.contains(&letter.place) {
            let now = judge.judge(&letter);
            if let Some(remark) = now.remark {
                *remarks.entry(remark).or_default() += 1;
            }
            *outcomes.entry((now.is_accepted, now.outcome)).or_default() += 1;
        }
        Ok(())
    })?;
    let accepted: u64 = outcomes
        .iter()
        .filter(|((is_accepted, _), _)| *is_accepted)
        .map(|(_, count)| count)
        .sum();
    say!("accepted     {accepted} of {} now", plan.letters.len());
    for ((is_accepted, outcome), count) in &outcomes {
        let fate = if *is_accepted { "accepted" } else { "refused" };
        say!("  {count} {fate}: {outcome}");
    }
    for (remark, count) in remarks {
        say!("remark       {count}: {remark}");
    }
    Ok(accepted)
}
