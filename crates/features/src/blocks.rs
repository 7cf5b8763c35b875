//! The columns of one node, block by block: each block names its columns and writes as many numbers.

use rustc_hash::FxHashMap;

use leadpulse_graph::{Bank, EventLayout, EventState, GraphOptions, Node, SlotKind, order_reached, signed_log1p};
use leadpulse_schema::{DataType, Feature, FieldId, Table, Value};

use crate::batch::Absent;

/// Buckets of hashed words per text field.
const TEXT_BUCKETS: usize = 16;
/// Ages are put on a log scale that ends here, days.
const OLDEST_DAYS: f64 = 3650.0;

/// A column before groups have numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub name: String,
    pub group: String,
    pub absent: Absent,
}

/// Days between two moments.
pub(crate) fn days(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 86_400_000.0
}

/// 1 for now, 0 for never or ten years ago, on a log scale.
pub(crate) fn recency(newest_ms: Option<i64>, as_of_ms: i64) -> f32 {
    newest_ms.map_or(0.0, |t| (1.0 - days(t, as_of_ms).clamp(0.0, OLDEST_DAYS).ln_1p() / OLDEST_DAYS.ln_1p()) as f32)
}

/// sin and cos of a phase in turns.
fn cycle(turns: f64, out: &mut Vec<f32>) {
    let angle = turns * std::f64::consts::TAU;
    out.extend([angle.sin() as f32, angle.cos() as f32]);
}

/// Season of the year: two harmonics.
pub(crate) fn season(as_of_ms: i64, out: &mut Vec<f32>) {
    let year = days(0, as_of_ms) / 365.2425;
    cycle(year, out);
    cycle(2.0 * year, out);
}

/// Names of [`season`]'s columns.
pub(crate) const SEASON: [&str; 4] = ["season/sin", "season/cos", "season/sin2", "season/cos2"];

#[derive(Clone, Debug)]
pub(crate) enum Block {
    Number { field: FieldId },
    Category { field: FieldId, values: FxHashMap<String, usize> },
    Set { field: FieldId, values: FxHashMap<String, usize> },
    Time { field: FieldId },
    Text { field: FieldId },
    Events { position: usize, layout: EventLayout, halves: usize, order_window_ms: i64 },
}

impl Block {
    /// The blocks of an entity table's own fields, with their columns.
    pub(crate) fn of_fields(table: &Table, vocabulary: impl Fn(&str) -> Vec<String>, columns: &mut Vec<Named>) -> Vec<Block> {
        let mut blocks = Vec::new();
        for field in &table.fields {
            let path = format!("{}.{}", table.name, field.name);
            let group = field.group.clone().unwrap_or_else(|| "profile".into());
            let mut name = |suffix: String, absent| columns.push(Named { name: format!("{path}{suffix}"), group: group.clone(), absent });
            let is_time = field.feature == Feature::Time || Some(field.id) == table.time;
            if is_time {
                for suffix in ["/age", "/missing", "/hour_sin", "/hour_cos", "/weekday_sin", "/weekday_cos"] {
                    name(suffix.into(), Absent::Mean);
                }
                blocks.push(Block::Time { field: field.id });
                continue;
            }
            match field.feature {
                Feature::None | Feature::Time => {}
                Feature::Number => {
                    name("/value".into(), Absent::Mean);
                    name("/missing".into(), Absent::Mean);
                    blocks.push(Block::Number { field: field.id });
                }
                Feature::Category | Feature::Set => {
                    let values = vocabulary(&path);
                    for value in &values {
                        name(format!("={value}"), Absent::Mean);
                    }
                    name("/other".into(), Absent::Mean);
                    name("/missing".into(), Absent::Mean);
                    let values = values.into_iter().enumerate().map(|(i, v)| (v, i)).collect();
                    blocks.push(match field.data_type {
                        DataType::TextList => Block::Set { field: field.id, values },
                        _ => Block::Category { field: field.id, values },
                    });
                }
                Feature::Text => {
                    for bucket in 0..TEXT_BUCKETS {
                        name(format!("/words{bucket}"), Absent::Mean);
                    }
                    blocks.push(Block::Text { field: field.id });
                }
            }
        }
        blocks
    }

    /// The block of an event table on its owner, with its columns.
    pub(crate) fn of_events(
        events: &Table,
        position: usize,
        layout: &EventLayout,
        options: &GraphOptions,
        columns: &mut Vec<Named>,
    ) -> Block {
        let halves = &options.half_lives_days;
        let mut name = |group: &str, name: String| columns.push(Named { name, group: group.to_owned(), absent: Absent::Zero });
        let t = &events.name;
        let table_group =
            events.fields.iter().find_map(|f| (f.group.is_some() && f.feature == Feature::Category).then(|| f.group.clone())).flatten();
        let group = table_group.unwrap_or_else(|| t.clone());
        for slot in &layout.slots {
            let (path, group) = match slot.field {
                None => (t.clone(), group.clone()),
                Some(field) => {
                    let field = events.field_at(field);
                    (format!("{t}.{}", field.name), field.group.clone().unwrap_or_else(|| group.clone()))
                }
            };
            let path = match &slot.kind {
                SlotKind::Value(value) => format!("{path}={value}"),
                SlotKind::Bucket(bucket) => format!("{path}#{bucket}"),
                SlotKind::Count | SlotKind::Raw | SlotKind::Log | SlotKind::Flag => path,
            };
            let what: &[&str] = match slot.kind {
                SlotKind::Count | SlotKind::Raw | SlotKind::Bucket(_) => &["sum"],
                SlotKind::Log => &["mean"],
                SlotKind::Value(_) | SlotKind::Flag => &["sum", "share"],
            };
            for what in what {
                for half in halves {
                    name(&group, format!("{path}/{half}d/{what}"));
                }
            }
            if matches!(slot.kind, SlotKind::Value(_)) {
                name(&group, format!("{path}/recency"));
            }
            if matches!(slot.kind, SlotKind::Value(_) | SlotKind::Log | SlotKind::Flag) {
                name(&group, format!("{path}/last"));
            }
        }
        for what in [
            "total",
            "recency",
            "age",
            "active_days",
            "gap_mean",
            "gap_deviation",
            "gap_last",
            "gap_median",
            "second_last",
            "third_last",
            "fourth_last",
            "overdue",
        ] {
            name(&group, format!("{t}/{what}"));
        }
        if layout.top_stage > 0 {
            name(&group, format!("{t}/deepest_stage"));
            for stage in 1..=layout.top_stage {
                name(&group, format!("{t}/stage{stage}_recency"));
            }
        }
        let order_window_ms = (options.order_window_days * 86_400_000.0) as i64;
        Block::Events { position, layout: layout.clone(), halves: halves.len(), order_window_ms }
    }

    /// Writes the block's numbers.
    pub(crate) fn write(&self, node: &Node, bank: &Bank, as_of_ms: i64, out: &mut Vec<f32>) {
        match self {
            Block::Number { field } => match node.value(*field).number() {
                Some(x) => out.extend([signed_log1p(x) as f32, 0.0]),
                None => out.extend([0.0, 1.0]),
            },
            Block::Category { field, values } => {
                let start = out.len();
                out.resize(start + values.len() + 2, 0.0);
                let at = match node.value(*field) {
                    Value::Text(text) => values.get(text).copied().unwrap_or(values.len()),
                    _ => values.len() + 1,
                };
                out[start + at] = 1.0;
            }
            Block::Set { field, values } => {
                let start = out.len();
                out.resize(start + values.len() + 2, 0.0);
                match node.value(*field) {
                    Value::List(items) => {
                        for item in items.iter() {
                            out[start + values.get(item).copied().unwrap_or(values.len())] = 1.0;
                        }
                    }
                    _ => out[start + values.len() + 1] = 1.0,
                }
            }
            Block::Time { field } => match node.value(*field) {
                Value::Time(t) => {
                    out.extend([signed_log1p(days(t, as_of_ms)) as f32, 0.0]);
                    let day = days(0, t);
                    cycle(day, out);
                    cycle(day.floor() / 7.0, out);
                }
                _ => out.extend([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
            },
            Block::Text { field } => {
                let start = out.len();
                out.resize(start + TEXT_BUCKETS, 0.0);
                if let Value::Text(text) = node.value(*field) {
                    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                        let hash = xxhash_rust::xxh3::xxh3_64(word.to_lowercase().as_bytes());
                        out[start + (hash % TEXT_BUCKETS as u64) as usize] += 1.0;
                    }
                    for x in &mut out[start..] {
                        *x = x.ln_1p();
                    }
                }
            }
            Block::Events { position, layout, halves, order_window_ms } => {
                events(&node.events[*position], layout, *halves, *order_window_ms, bank, as_of_ms, out);
            }
        }
    }
}

fn events(state: &EventState, layout: &EventLayout, halves: usize, order_window_ms: i64, bank: &Bank, as_of_ms: i64, out: &mut Vec<f32>) {
    let reads: Vec<f64> = (0..halves).map(|h| bank.read(h, state.landmark(), as_of_ms)).collect();
    let mut touched = state.slots(bank).peekable();
    let mut counts = vec![0.0; halves];
    let last = state.newest.as_ref();
    for (slot, definition) in layout.slots.iter().enumerate() {
        let slot = slot as u16;
        let found = touched.next_if(|(s, ..)| *s == slot);
        let sums = |h: usize| found.map_or(0.0, |(_, sums, _)| sums[h] * reads[h]);
        if slot == 0 {
            (0..halves).for_each(|h| counts[h] = sums(h));
        }
        let share = |h: usize| if counts[h] > 1e-9 { (sums(h) / counts[h]) as f32 } else { 0.0 };
        let last_value = || last.and_then(|n| n.phi.iter().find(|(s, _)| *s == slot)).map_or(0.0, |(_, x)| *x);
        match definition.kind {
            SlotKind::Count | SlotKind::Raw | SlotKind::Bucket(_) => out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32)),
            SlotKind::Log => {
                out.extend((0..halves).map(share));
                out.push(last_value());
            }
            SlotKind::Flag => {
                out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32));
                out.extend((0..halves).map(share));
                out.push(last_value());
            }
            SlotKind::Value(_) => {
                out.extend((0..halves).map(|h| signed_log1p(sums(h)) as f32));
                out.extend((0..halves).map(share));
                out.push(recency(found.map(|(_, _, newest)| newest), as_of_ms));
                out.push(last_value());
            }
        }
    }
    rhythm(state, as_of_ms, out);
    if layout.top_stage > 0 {
        let reached = order_reached(&state.staged, layout.top_stage, order_window_ms);
        let deepest = reached.iter().rposition(Option::is_some).map_or(0, |j| j + 1);
        out.push(deepest as f32 / f32::from(layout.top_stage));
        out.extend(reached.iter().map(|t| recency(*t, as_of_ms)));
    }
}

/// Total, recency, age, active days, gaps between them, k-th last active day, and how overdue the next one is.
fn rhythm(state: &EventState, as_of_ms: i64, out: &mut Vec<f32>) {
    let since = |t: i64| days(t, as_of_ms).max(0.0);
    out.push((state.total as f64).ln_1p() as f32);
    out.push(recency(state.newest_ms(), as_of_ms));
    out.push(if state.is_empty() { 0.0 } else { since(state.oldest_ms).ln_1p() as f32 });
    let active = &state.days;
    out.push((active.len() as f64).ln_1p() as f32);
    let mut gaps: Vec<f64> = active.windows(2).map(|w| f64::from(w[1]) - f64::from(w[0])).collect();
    let last_gap = gaps.last().copied();
    let n = gaps.len() as f64;
    let mean = if gaps.is_empty() { None } else { Some(gaps.iter().sum::<f64>() / n) };
    let deviation = mean.map(|m| (gaps.iter().map(|g| (g - m).powi(2)).sum::<f64>() / n).sqrt());
    gaps.sort_unstable_by(f64::total_cmp);
    let median = (!gaps.is_empty()).then(|| gaps[gaps.len() / 2]);
    for value in [mean, deviation, last_gap, median] {
        out.push(value.map_or(0.0, |v| v.ln_1p() as f32));
    }
    for k in 2..=4 {
        let day = active.len().checked_sub(k).map(|i| i64::from(active[i]) * 86_400_000);
        out.push(recency(day, as_of_ms));
    }
    let overdue = match (state.newest_ms(), mean) {
        (Some(t), Some(mean)) => (since(t) / mean.max(0.5)).min(100.0).ln_1p(),
        _ => 0.0,
    };
    out.push(overdue as f32);
}
