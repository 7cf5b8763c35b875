//! Lines of figures for a terminal.

use serde_json::Value as Json;

use crate::commands::date;

use super::figures::Figures;

/// Topics that are shown: those with the most records waiting.
const TOPICS: usize = 8;

/// The figures as lines, the most important first. No line ends in a newline.
pub fn lines(figures: &Figures) -> Vec<String> {
    let mut lines = head(figures);
    lines.extend(topics(figures));
    lines.extend(sinks(figures));
    lines.extend(alerts(figures));
    lines
}

fn head(figures: &Figures) -> Vec<String> {
    let status = &figures.status;
    let text = |value: &Json| value.as_str().unwrap_or("–").to_owned();
    let moment = |value: &Json| value.as_i64().map_or("–".to_owned(), date);
    let mut lines = vec![format!(
        "{}  {}  leadpulse {}",
        date(figures.at),
        figures.url,
        text(&status["version"])
    )];
    let mut phase = format!(
        "phase    {}  epoch {}  as_of {}  bundle {}",
        text(&status["phase"]),
        status["epoch"],
        moment(&status["as_of"]),
        text(&status["deployed"]["bundle_id"])
    );
    if let Some(lag) = status["lag_epochs"].as_u64() {
        phase += &format!("  {lag} epochs behind its owner");
    }
    lines.push(phase);
    if let Some(reason) = status["reason"].as_str() {
        lines.push(format!("remark   {reason}"));
    }
    let rates = &figures.rates;
    let rate = |name: &str| rates.per_second.get(name).copied().unwrap_or_default();
    let note = if rates.restarted {
        "  (started again)"
    } else {
        ""
    };
    lines.push(format!(
        "rates/s  records {:.1}  epochs {:.1}  cells {:.1}  scores {:.1}  alerts {:.1}  dead letters {:.1}{note}",
        rate("records"),
        rate("epochs"),
        rate("cells"),
        rate("scores"),
        rate("alerts"),
        rate("dead_letters")
    ));
    let total = |name: &str| figures.totals.get(name).copied().unwrap_or_default();
    lines.push(format!(
        "totals   records {}  epochs {}  cells {}  scores {}  alerts {}  dead letters {}",
        total("records"),
        total("epochs"),
        total("cells"),
        total("scores"),
        total("alerts"),
        total("dead_letters")
    ));
    let ms = |seconds: Option<f64>| match seconds {
        Some(seconds) => format!("{:.0} ms", 1000.0 * seconds),
        None => "–".to_owned(),
    };
    let waiting = figures.waiting_cells.iter();
    let waiting: Vec<String> = waiting
        .map(|(queue, cells)| format!("{queue} {cells}"))
        .collect();
    lines.push(format!(
        "work     an epoch {}  latency {}  waiting cells: {}  memory {:.0} MiB",
        ms(rates.epoch_seconds),
        ms(rates.latency_seconds),
        match waiting.is_empty() {
            true => "–".to_owned(),
            false => waiting.join(", "),
        },
        figures.memory_bytes / f64::from(1 << 20)
    ));
    lines
}

fn topics(figures: &Figures) -> Vec<String> {
    let mut topics: Vec<_> = figures.topics.iter().collect();
    topics.sort_by(|a, b| {
        b.1.records
            .total_cmp(&a.1.records)
            .then_with(|| a.0.cmp(b.0))
    });
    let left_out = topics.len().saturating_sub(TOPICS);
    let mut lines = vec![format!(
        "lag      {} records",
        figures.status["lag_records"]
    )];
    for (topic, lag) in topics.into_iter().take(TOPICS) {
        lines.push(format!(
            "  {:>10} records  {:>8.1} s  {topic}",
            lag.records, lag.seconds
        ));
    }
    if left_out > 0 {
        lines.push(format!("  {left_out} more topics"));
    }
    lines
}

fn sinks(figures: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(fault) = &figures.sinks_fault {
        lines.push(format!("sinks    {fault}"));
    }
    if let Some(sinks) = &figures.sinks {
        lines.push(format!("sinks    {}", sinks.len()));
        for (name, sink) in sinks {
            let waits = if sink.waits { "  waits" } else { "" };
            lines.push(format!(
                "  {:>10} delivered  {} retried  {} dead-lettered  {:.1} s behind  {name}{waits}",
                sink.delivered, sink.retried, sink.dead_lettered, sink.lag_seconds
            ));
        }
    }
    lines
}

fn alerts(figures: &Figures) -> Vec<String> {
    let mut lines = vec![format!("alerts   the newest {}", figures.alerts.len())];
    for alert in &figures.alerts {
        let text = |field: &str| alert[field].as_str().unwrap_or_default();
        let name = alert["name"].as_str().unwrap_or(text("entity_id"));
        lines.push(format!(
            "  {}  {:<3} {:<10} {:>5.1}  {}  {name}  ({}, {})",
            alert["as_of"].as_i64().map_or("–".to_owned(), date),
            text("severity"),
            text("state"),
            alert["score"].as_f64().unwrap_or_default(),
            text("type"),
            text("task"),
            alert["owner_id"].as_str().unwrap_or("nobody")
        ));
    }
    lines
}
