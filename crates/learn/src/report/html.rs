//! A report as one page of HTML: no script, no network, readable on paper.

use std::fmt::Write;

use leadpulse_model::Grade;

use super::{
    Baseline, CalibrationFigures, Cohort, Cohorts, Decile, Estimate, PartFigures, RankFigures,
    Report, Segment, TaskEvaluation,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:62rem;\
margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{margin-top:3rem;border-bottom:2px solid \
#d5dbe3;padding-bottom:.2rem}h3{margin:1.8rem 0 .4rem}code,pre{font:13px/1.45 ui-monospace,\
monospace}pre{background:#f4f6f9;padding:.7rem 1rem;white-space:pre-wrap;border-radius:6px}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:\
right;padding:.25rem .6rem;border-bottom:1px solid #e4e8ee}th:first-child,td:first-child{\
text-align:left}td:not(:first-child){white-space:nowrap}th{color:#5a6675;font-weight:600}.grade{display:inline-block;padding:.1rem .7rem;\
border-radius:1rem;color:#fff;font-weight:600}.note{color:#5a6675}.bar{fill:#3b6fb6}.null{fill:\
#cfd8e6}.axis{stroke:#9aa6b5;stroke-width:1}.dot{fill:#b6433b}text{font:11px system-ui,sans-serif;\
fill:#5a6675}ul{margin:.3rem 0}";

/// The only place where text becomes markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Markup under construction.
#[derive(Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Adds markup of this module's own.
    pub(super) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
        self.0.push('\n');
    }
    /// Adds an element with text.
    pub(super) fn element(&mut self, tag: &str, text: &str) {
        self.raw(&format!("<{tag}>{}</{tag}>", escaped(text)));
    }
    /// Adds a table; the first column is of words, the others of numbers.
    pub(super) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        self.raw("<table>");
        let line = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
            let cells: String = cells
                .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
                .collect();
            format!("<tr>{cells}</tr>")
        };
        self.raw(&line(&mut header.iter().copied(), "th"));
        for row in rows {
            self.raw(&line(&mut row.iter().map(String::as_str), "td"));
        }
        self.raw("</table>");
    }
}

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut page = Markup::default();
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.element("title", &report.title);
    page.raw(&format!("<style>{STYLE}</style></head><body>"));
    page.element("h1", &report.title);
    page.raw(&format!(
        "<p class=\"note\">Bundle <code>{}</code>. Intervals hold 95 % and are over entities: the \
         rows of one entity repeat its outcome.</p>",
        escaped(&report.bundle)
    ));
    for task in &report.tasks {
        show_task(&mut page, task);
    }
    page.raw("</body></html>");
    page.0
}

fn show_task(page: &mut Markup, task: &TaskEvaluation) {
    page.element("h2", &task.task);
    page.element("pre", &task.query);
    show_quality(page, task);
    for remark in &task.remarks {
        page.raw(&format!("<p class=\"note\">{}</p>", escaped(remark)));
    }
    let count = |n: usize| n.to_string();
    page.table(
        &[
            "",
            "rows",
            "entities",
            "positive rows",
            "positive entities",
            "outcomes",
            "anchors",
        ],
        &[vec![
            match task.anchors {
                0 => "no rows".to_owned(),
                _ => format!("{} to {}", day(&task.first_anchor), day(&task.last_anchor)),
            },
            count(task.rows),
            count(task.entities),
            count(task.positives),
            count(task.positive_entities),
            count(task.outcomes),
            count(task.anchors),
        ]],
    );
    page.raw(
        "<p class=\"note\">Outcomes are positives whose windows do not overlap: as many as the \
         rows can tell apart.</p>",
    );
    show_figures(page, task);
    if let Some(found) = &task.against {
        super::against::show(page, found);
    }
    if let Some(found) = &task.calibration {
        show_calibration(page, found);
    }
    if !task.deciles.is_empty() {
        show_deciles(page, task);
    }
    if let Some(part) = &task.without_open_deal {
        show_part(page, "Without an open deal", part);
    }
    show_groups(page, task);
    show_segments(page, &task.segments);
    show_cohorts(page, &task.cohorts);
}

fn day(moment: &str) -> &str {
    moment.get(..10).unwrap_or(moment)
}

fn show_quality(page: &mut Markup, task: &TaskEvaluation) {
    let Some(quality) = &task.quality else {
        return page.element("p", "No outcome is known: there is nothing to grade.");
    };
    let colour = match quality.grade {
        Grade::Sound => "#2e7d4f",
        Grade::Provisional => "#b07a16",
        Grade::Insufficient | Grade::WorseThanChance => "#b6433b",
    };
    page.raw(&format!(
        "<p><span class=\"grade\" style=\"background:{colour}\">{}</span></p>",
        escaped(quality.grade.words())
    ));
    if !quality.reasons.is_empty() {
        page.raw("<ul>");
        for reason in &quality.reasons {
            page.element("li", reason);
        }
        page.raw("</ul>");
    }
}

fn figure(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(
        || "–".to_owned(),
        |e| format!("{:.4} ({:.4} to {:.4})", e.value, e.low, e.high),
    )
}

pub(super) fn signed(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(
        || "–".to_owned(),
        |e| format!("{:+.4} ({:+.4} to {:+.4})", e.value, e.low, e.high),
    )
}

/// A figure without an interval.
pub(super) fn figure_of(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

fn show_figures(page: &mut Markup, task: &TaskEvaluation) {
    if let Some(found) = &task.regression {
        page.element("h3", "Figures");
        let spearman = found.spearman.map_or("–".to_owned(), |x| format!("{x:.4}"));
        let row = [
            format!("{:.4}", found.mae),
            format!("{:.4}", found.mae_log1p),
            spearman,
        ];
        let row = std::iter::once("model".to_owned()).chain(row).collect();
        page.table(&["", "MAE", "MAE of log1p", "Spearman"], &[row]);
    }
    let (Some(model), Some(losses)) = (&task.model, &task.losses) else {
        return;
    };
    page.element("h3", "Ranking, beside simple rules on the same rows");
    show_ranks(page, model, &task.baselines, (task.positives, task.rows));
    page.element("h3", "Probabilities");
    page.table(
        &["", "log loss", "Brier", "log loss beside the base rate"],
        &[vec![
            "model".to_owned(),
            figure(Some(losses.log_loss)),
            figure(Some(losses.brier)),
            signed(Some(losses.log_loss_over_base_rate)),
        ]],
    );
    if let Some(rate) = task.base_rate {
        page.raw(&format!(
            "<p class=\"note\">The base rate gives everyone {rate:.4}; below 0 the model is \
             better.</p>"
        ));
    }
}

/// The ranking of the model, of simple rules and of chance, over rows of which some are positive.
fn show_ranks(
    page: &mut Markup,
    model: &RankFigures,
    baselines: &[Baseline],
    (positives, rows): (usize, usize),
) {
    let row = |name: &str, figures: &RankFigures| {
        vec![
            name.to_owned(),
            figure(figures.auroc),
            figure(figures.average_precision),
            signed(figures.auroc_behind),
        ]
    };
    let mut lines = vec![row("model", model)];
    lines.extend(baselines.iter().map(|b| row(&b.name, &b.figures)));
    let precision = match rows {
        0 => "–".to_owned(),
        rows => format!("{:.4}", positives as f64 / rows as f64),
    };
    lines.push(vec!["chance".into(), ".5000".into(), precision, "–".into()]);
    page.table(
        &["", "AUROC", "average precision", "model ahead by (AUROC)"],
        &lines,
    );
}

/// A part of the rows: its numbers, ranking, losses and calibration.
fn show_part(page: &mut Markup, title: &str, part: &PartFigures) {
    page.element("h3", title);
    page.element(
        "p",
        &format!(
            "{} rows of {} entities, {} of them positive; {} outcomes of {} entities. Log loss {}, \
             {} beside the rate of these rows. ECE {:.4}, {:.4} with true probabilities.",
            part.rows,
            part.entities,
            part.positives,
            part.outcomes,
            part.positive_entities,
            figure(Some(part.losses.log_loss)),
            signed(Some(part.losses.log_loss_over_base_rate)),
            part.calibration.ece,
            part.calibration.null_ece,
        ),
    );
    show_ranks(
        page,
        &part.model,
        &part.baselines,
        (part.positives, part.rows),
    );
}

fn show_calibration(page: &mut Markup, found: &CalibrationFigures) {
    page.element("h3", "Calibration");
    page.raw(&format!(
        "<p>ECE {:.4} over {} bins of as many rows; true probabilities would show {:.4} on these \
         rows, and more than {:.4} once in twenty times. Mean probability {:.4}, rate {:.4}.</p>",
        found.ece,
        found.bins.len(),
        found.null_ece,
        found.null_ece_high,
        found.mean_predicted,
        found.rate
    ));
    page.raw(&reliability_diagram(found));
    page.raw(
        "<p class=\"note\">Dots: share of positive outcomes by predicted probability. Bars: where \
         95 % of the shares lie if the probabilities are true.</p>",
    );
}

/// Shares over probabilities, both from 0 to the largest that occurs.
fn reliability_diagram(found: &CalibrationFigures) -> String {
    const SIDE: f64 = 320.0;
    const LEFT: f64 = 46.0;
    let bins = found.bins.iter();
    let largest = bins
        .flat_map(|b| [b.predicted, b.observed, b.null_high])
        .fold(1e-3, f64::max);
    let x = |p: f64| LEFT + p / largest * SIDE;
    let y = |p: f64| 10.0 + SIDE - p / largest * SIDE;
    let mut svg = format!(
        "<svg width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\
         \"reliability diagram\"><line class=\"axis\" x1=\"{x0}\" y1=\"{y0}\" x2=\"{x1}\" \
         y2=\"{y1}\" stroke-dasharray=\"4 4\"/>",
        w = LEFT + SIDE + 20.0,
        h = SIDE + 50.0,
        x0 = x(0.0),
        y0 = y(0.0),
        x1 = x(largest),
        y1 = y(largest)
    );
    for bin in &found.bins {
        let height = y(bin.null_low) - y(bin.null_high);
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<rect class=\"null\" x=\"{:.1}\" y=\"{:.1}\" width=\"6\" height=\"{:.1}\"/><circle \
             class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
            x(bin.predicted) - 3.0,
            y(bin.null_high),
            height.max(1.0),
            x(bin.predicted),
            y(bin.observed)
        );
    }
    for part in 0..=4 {
        let value = largest * f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.3}</text><text \
             x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.3}</text>",
            x(value),
            SIDE + 28.0,
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">predicted probability</text><text \
         x=\"{:.1}\" y=\"22\">share that came true</text></svg>",
        LEFT + SIDE / 2.0,
        SIDE + 42.0,
        LEFT + 6.0
    );
    svg
}

fn show_deciles(page: &mut Markup, task: &TaskEvaluation) {
    page.element("h3", "Lift by tenths, highest scores first");
    page.raw(&lift_bars(&task.deciles));
    let rows = task.deciles.iter().enumerate().map(|(index, tenth)| {
        vec![
            (index + 1).to_string(),
            format!("{:.0}", tenth.rows),
            format!("{:.4}", tenth.predicted),
            format!("{:.4}", tenth.rate),
            format!("{:.2}", tenth.lift),
            format!("{:.1} %", tenth.captured * 100.0),
        ]
    });
    let header = [
        "tenth",
        "rows",
        "mean probability",
        "rate",
        "lift",
        "positives so far",
    ];
    page.table(&header, &rows.collect::<Vec<_>>());
    let words = match (task.top_to_bottom, task.outcomes) {
        (Some(ratio), _) => format!("The best tenth has {ratio:.1} times the rate of the worst."),
        (None, outcomes) if outcomes < super::MIN_OUTCOMES_OF_RATIO => format!(
            "No ratio of the best tenth to the worst: of {outcomes} outcomes (200 are the least) \
             the worst tenth has a few by chance."
        ),
        _ => "No ratio of the best tenth to the worst: the worst has no positive outcome.".into(),
    };
    page.raw(&format!("<p class=\"note\">{}</p>", escaped(&words)));
}

fn lift_bars(deciles: &[Decile]) -> String {
    const WIDTH: f64 = 60.0;
    const HEIGHT: f64 = 140.0;
    let largest = deciles.iter().map(|d| d.lift).fold(1.0, f64::max);
    let mut svg = format!(
        "<svg width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"lift \
         by tenths\">",
        w = WIDTH * deciles.len() as f64,
        h = HEIGHT + 36.0
    );
    for (index, tenth) in deciles.iter().enumerate() {
        let left = WIDTH * index as f64;
        let height = tenth.lift / largest * HEIGHT;
        let top = 16.0 + HEIGHT - height;
        let middle = left + WIDTH / 2.0;
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.2}</text><text \
             x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left + 4.0,
            WIDTH - 8.0,
            top - 4.0,
            tenth.lift,
            HEIGHT + 32.0,
            index + 1
        );
    }
    svg.push_str("</svg>");
    svg
}

fn show_groups(page: &mut Markup, task: &TaskEvaluation) {
    if task.groups.is_empty() {
        return;
    }
    page.element("h3", "What the model looked at");
    let total: f64 = task.groups.iter().map(|group| group.mean_logit).sum();
    let rows = task.groups.iter().map(|group| {
        let share = if total > 0.0 {
            group.mean_logit / total
        } else {
            0.0
        };
        vec![
            group.group.clone(),
            format!("{:.4}", group.mean_logit),
            format!("{:.1} %", share * 100.0),
        ]
    });
    let header = ["group", "mean |contribution|, logits", "share"];
    page.table(&header, &rows.collect::<Vec<_>>());
}

fn show_segments(page: &mut Markup, segments: &[Segment]) {
    for of_field in segments.chunk_by(|a, b| a.field == b.field) {
        page.element("h3", &format!("By {}", of_field[0].field));
        let rows = of_field.iter().map(|part| {
            vec![
                part.value.clone().unwrap_or_else(|| "(missing)".to_owned()),
                part.rows.to_string(),
                part.entities.to_string(),
                part.positives.to_string(),
                format!("{:.4}", part.predicted),
                format!("{:.4}", part.rate),
                part.auroc
                    .map_or("–".to_owned(), |auroc| format!("{auroc:.4}")),
            ]
        });
        let header = [
            "value",
            "rows",
            "entities",
            "positive rows",
            "mean probability",
            "rate",
            "AUROC",
        ];
        page.table(&header, &rows.collect::<Vec<_>>());
    }
}

fn show_cohorts(page: &mut Markup, cohorts: &[Cohorts]) {
    if cohorts.is_empty() {
        return;
    }
    page.element("h3", "By columns: predictions beside outcomes");
    page.raw(
        "<p class=\"note\">Columns along which predictions differ most, then those with a part that \
         predictions miss. Values are as the model reads them: counts and amounts are logarithms, \
         log(1 + x). The gap is rate − mean prediction, in errors of chance; from 3 on, marked *, \
         chance does not explain it.</p>",
    );
    for column in cohorts {
        let rows = column.parts.iter().map(|part| {
            vec![
                range(part.low, part.high),
                format!("{:.1} %", part.share * 100.0),
                part.rows.to_string(),
                part.entities.to_string(),
                format!("{:.4}", part.predicted),
                format!("{:.4}", part.observed),
                gap(part),
            ]
        });
        let name = format!("{} ({})", column.column, column.group);
        let header = [
            name.as_str(),
            "share",
            "rows",
            "entities",
            "mean prediction",
            "mean outcome",
            "gap",
        ];
        page.table(&header, &rows.collect::<Vec<_>>());
    }
}

fn range(low: f64, high: f64) -> String {
    match low == high {
        true => format!("{low:.3}"),
        false => format!("{low:.3} to {high:.3}"),
    }
}

fn gap(part: &Cohort) -> String {
    let mark = if part.is_missed() { " *" } else { "" };
    part.gap_in_errors
        .map_or_else(|| "–".to_owned(), |gap| format!("{gap:+.1}{mark}"))
}
