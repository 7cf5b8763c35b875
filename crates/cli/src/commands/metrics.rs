//! `leadpulse metrics`: the list of metrics, for people, documents, Prometheus and Grafana.

use anyhow::Result;
use leadpulse_deployment::{metric_groups, metrics_at_start};
use leadpulse_metrics::MetricDefinition;

use crate::dashboard::dashboard;

/// Arguments of `metrics`.
#[derive(clap::Args)]
pub struct MetricsArguments {
    #[arg(long, value_enum, default_value_t = MetricsFormat::Text)]
    format: MetricsFormat,
    /// As --format json: an object a line.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MetricsFormat {
    /// A line for each metric.
    Text,
    /// Tables for a document.
    Markdown,
    /// One object a line.
    Json,
    /// The exposition of a worker that has counted nothing yet.
    Prometheus,
    /// A Grafana dashboard with a panel for each metric.
    Grafana,
}

impl MetricsArguments {
    pub fn run(self) -> Result<()> {
        let format = match self.json {
            true => MetricsFormat::Json,
            false => self.format,
        };
        match format {
            MetricsFormat::Text => text(),
            MetricsFormat::Markdown => markdown(),
            MetricsFormat::Json => json()?,
            MetricsFormat::Prometheus => say!("{}", metrics_at_start()?.trim_end()),
            MetricsFormat::Grafana => {
                say!(
                    "{}",
                    serde_json::to_string_pretty(&dashboard(&metric_groups()))?
                );
            }
        }
        Ok(())
    }
}

/// The name with its labels, as in a query.
fn shown(metric: &MetricDefinition) -> String {
    match metric.labels {
        [] => metric.name.to_owned(),
        labels => format!("{}{{{}}}", metric.name, labels.join(",")),
    }
}

fn text() {
    for group in metric_groups() {
        say!("{}", group.title);
        for metric in group.metrics {
            say!(
                "  {:<64} {:<9} {}",
                shown(metric),
                metric.kind.name(),
                metric.help
            );
        }
    }
}

fn markdown() {
    for group in metric_groups() {
        say!(
            "## {}\n\n| metric | kind | meaning |\n|---|---|---|",
            group.title
        );
        for metric in group.metrics {
            say!(
                "| `{}` | {} | {} |",
                shown(metric),
                metric.kind.name(),
                metric.help
            );
        }
        say!("");
    }
}

fn json() -> Result<()> {
    for group in metric_groups() {
        for metric in group.metrics {
            let line = serde_json::json!({
                "name": metric.name,
                "kind": metric.kind.name(),
                "labels": metric.labels,
                "help": metric.help,
                "buckets": metric.buckets,
            });
            say!("{line}");
        }
    }
    Ok(())
}
