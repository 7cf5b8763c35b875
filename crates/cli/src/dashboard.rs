//! A Grafana dashboard from the list of metrics: an overview, then a panel for each metric.

use leadpulse_deployment::MetricGroup;
use leadpulse_metrics::{MetricDefinition, MetricKind};
use serde_json::{Value, json};

/// Width of a dashboard, in Grafana's columns.
const COLUMNS: u32 = 24;
const PANEL_WIDTH: u32 = 8;
const PANEL_HEIGHT: u32 = 7;

/// A panel of the overview: title, unit, expressions with their legends.
type Overview = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// The panels of the overview.
const OVERVIEW: [Overview; 9] = [
    (
        "Role",
        "short",
        &[(
            "max by (role, instance) (leadpulse_role)",
            "{{instance}} {{role}}",
        )],
    ),
    (
        "Behind, seconds",
        "s",
        &[(
            "max by (topic) (leadpulse_kafka_consumer_lag_seconds)",
            "{{topic}}",
        )],
    ),
    (
        "Way from a record's timestamp to its commit",
        "s",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(leadpulse_pipeline_latency_seconds_bucket[$__rate_interval])))",
                "p50",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(leadpulse_pipeline_latency_seconds_bucket[$__rate_interval])))",
                "p99",
            ),
        ],
    ),
    (
        "Records a second",
        "short",
        &[(
            "sum by (topic) (rate(leadpulse_events_consumed_total[$__rate_interval]))",
            "{{topic}}",
        )],
    ),
    (
        "Dead letters, by reason",
        "short",
        &[(
            "sum by (reason) (increase(leadpulse_dlq_records_total[$__rate_interval]))",
            "{{reason}}",
        )],
    ),
    (
        "Alerts, by task and type",
        "short",
        &[(
            "sum by (task, type) (increase(leadpulse_alerts_emitted_total[1h])) > 0",
            "{{task}} {{type}}",
        )],
    ),
    (
        "Memory of the process",
        "bytes",
        &[("process_resident_memory_bytes", "{{instance}}")],
    ),
    (
        "Cells that wait",
        "short",
        &[("sum by (queue) (leadpulse_waiting_cells)", "{{queue}}")],
    ),
    (
        "Model of each task",
        "short",
        &[("leadpulse_model_info", "{{task}} {{bundle}}")],
    ),
];

/// The dashboard as Grafana imports it. The same list gives the same bytes.
pub fn dashboard(groups: &[MetricGroup]) -> Value {
    let mut panels = Panels::default();
    panels.row("Overview", false);
    for (title, unit, queries) in OVERVIEW {
        panels.add(
            title,
            "",
            unit,
            queries.iter().map(|(e, l)| (e.to_string(), l.to_string())),
        );
    }
    for group in groups {
        panels.row(group.title, true);
        for metric in group.metrics {
            let (unit, queries) = queries(metric);
            panels.add(metric.name, metric.help, unit, queries);
        }
    }
    json!({
        "uid": "leadpulse",
        "title": "Leadpulse",
        "tags": ["leadpulse"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{
            "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"
        }]},
        "panels": panels.made(),
    })
}

/// Unit and queries of a metric's own panel.
fn queries(metric: &MetricDefinition) -> (&'static str, Vec<(String, String)>) {
    let name = metric.name;
    let by = metric.labels.join(", ");
    let legend: Vec<String> = metric
        .labels
        .iter()
        .map(|l| format!("{{{{{l}}}}}"))
        .collect();
    let legend = match legend.as_slice() {
        [] => "{{instance}}".to_owned(),
        labels => labels.join(" "),
    };
    let (unit, queries) = match metric.kind {
        MetricKind::Counter if metric.labels.is_empty() => (
            unit(name),
            vec![(format!("rate({name}[$__rate_interval])"), legend)],
        ),
        MetricKind::Counter => (
            unit(name),
            vec![(
                format!("sum by ({by}) (rate({name}[$__rate_interval]))"),
                legend,
            )],
        ),
        MetricKind::Gauge if metric.labels.is_empty() => {
            (unit(name), vec![(name.to_owned(), legend)])
        }
        MetricKind::Gauge => (
            unit(name),
            vec![(format!("max by ({by}) ({name})"), legend)],
        ),
        MetricKind::Histogram => {
            let mut by = vec!["le"];
            by.extend(metric.labels);
            let by = by.join(", ");
            let quantile = |q: &str, word: &str| {
                let legend = match metric.labels {
                    [] => word.to_owned(),
                    _ => format!("{word} {legend}"),
                };
                let rate = format!("sum by ({by}) (rate({name}_bucket[$__rate_interval]))");
                (format!("histogram_quantile({q}, {rate})"), legend)
            };
            (
                unit(name),
                vec![quantile("0.5", "p50"), quantile("0.99", "p99")],
            )
        }
    };
    (unit, queries)
}

/// Grafana's unit, by the metric's name.
fn unit(name: &str) -> &'static str {
    match name {
        name if name.contains("_timestamp_seconds") => "dateTimeFromNow",
        "process_start_time_seconds" => "dateTimeFromNow",
        name if name.contains("_bytes") => "bytes",
        name if name.ends_with("_seconds") => "s",
        _ => "short",
    }
}

/// Panels, placed from left to right below each other.
#[derive(Default)]
struct Panels {
    /// Rows that are open or, with their panels, closed.
    rows: Vec<Value>,
    x: u32,
    y: u32,
    id: u32,
    is_closed: bool,
}

impl Panels {
    fn row(&mut self, title: &str, is_closed: bool) {
        if self.x > 0 {
            self.y += PANEL_HEIGHT;
        }
        self.x = 0;
        self.id += 1;
        self.is_closed = is_closed;
        self.rows.push(json!({
            "id": self.id, "type": "row", "title": title, "collapsed": is_closed,
            "gridPos": {"x": 0, "y": self.y, "w": COLUMNS, "h": 1}, "panels": [],
        }));
        self.y += 1;
    }

    fn add(
        &mut self,
        title: &str,
        description: &str,
        unit: &str,
        queries: impl IntoIterator<Item = (String, String)>,
    ) {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let mut targets = Vec::new();
        for (index, (expr, legend)) in queries.into_iter().enumerate() {
            let letter = char::from(b'A' + index as u8).to_string();
            targets.push(json!({
                "refId": letter, "expr": expr, "legendFormat": legend, "datasource": source,
            }));
        }
        self.id += 1;
        let panel = json!({
            "id": self.id, "type": "timeseries", "title": title, "description": description,
            "datasource": source,
            "gridPos": {"x": self.x, "y": self.y, "w": PANEL_WIDTH, "h": PANEL_HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "targets": targets,
        });
        self.x += PANEL_WIDTH;
        if self.x >= COLUMNS {
            self.x = 0;
            self.y += PANEL_HEIGHT;
        }
        let row = self.rows.last_mut().filter(|_| self.is_closed);
        match row.and_then(|row| row["panels"].as_array_mut()) {
            Some(inside) => inside.push(panel),
            None => self.rows.push(panel),
        }
    }

    fn made(self) -> Vec<Value> {
        self.rows
    }
}
