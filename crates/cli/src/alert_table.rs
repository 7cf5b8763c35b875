//! Figures of alerts as text: one line a figure, one column a policy.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert_figures::{AlertFigures, AlertGroup, JudgedAlert, OwnerDays};
use crate::commands::date;

/// Owners and days that are printed; `--json` has all.
const BUSIEST: usize = 5;

/// The table of one or several policies.
pub fn lines(figures: &[AlertFigures]) -> Vec<String> {
    let mut table = Table::default();
    table.row("policy", figures, |one| one.policy.clone());
    table.row("period", figures, |one| {
        format!(
            "{:.0} days, {} owners, {} accounts",
            one.days, one.owners, one.accounts
        )
    });
    table.row("alerts", figures, |one| {
        let of_day = one.all.alerts as f64 / one.days;
        format!(
            "{} ({of_day:.1} a day), {} sent, {} in digests",
            one.all.alerts,
            one.all.sent,
            one.all.alerts - one.all.sent
        )
    });
    table.row("besides", figures, |one| {
        format!("{} resolved, {} held out", one.resolved, one.held_out)
    });
    table.row("owner and day", figures, |one| owner_days(one.before_caps));
    table.row("  after caps", figures, |one| owner_days(one.after_caps));
    table.row("good news", figures, |one| outcomes(&one.rising));
    table.row("  open windows", figures, |one| {
        format!("{}, {} came", one.rising.open, one.rising.open_came_true)
    });
    table.row("  lead time", figures, |one| lead(&one.rising));
    table.row("flaps", figures, |one| {
        format!(
            "{} of {} rises fell below exit within 3 days",
            share(one.rises.reversed_ratio),
            one.rises.watched
        )
    });
    table.groups("type", figures, |one| &one.by_type);
    table.groups("severity", figures, |one| &one.by_severity);
    table.groups("task", figures, |one| &one.by_task);
    table.row("busiest owners", figures, |one| busiest(&one.by_owner));
    table.row("busiest days", figures, |one| busiest(&one.by_day));
    table.row("held back", figures, |one| {
        let held = one.held_back.iter().filter(|(_, count)| **count > 0);
        let held: Vec<String> = held.map(|(why, count)| format!("{count} {why}")).collect();
        held.join(", ")
    });
    table.lines()
}

/// One alert as a line: when, what, for whom, what came of it, and its sentence.
pub fn listed(alert: &JudgedAlert) -> String {
    let came = match (alert.came_true, alert.lead_days) {
        (_, Some(days)) => format!("came after {days:.0} days"),
        (Some(true), None) => "came".to_owned(),
        (Some(false), None) => "did not come".to_owned(),
        (None, None) => "open".to_owned(),
    };
    let owner = if alert.owner.is_empty() {
        "nobody"
    } else {
        &alert.owner
    };
    let place = if alert.is_sent { "sent" } else { "digest" };
    format!(
        "{} {} {} {owner} {place} [{came}] {}",
        date(alert.at),
        alert.severity,
        alert.r#type,
        alert.summary.as_deref().unwrap_or_default()
    )
}

fn share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |x| format!("{:.1} %", 100.0 * x))
}

fn owner_days(of: OwnerDays) -> String {
    format!("{:.2} on average, {} at most", of.mean, of.highest)
}

fn outcomes(group: &AlertGroup) -> String {
    format!(
        "{} of {} came true, base rate {}",
        share(group.came_true_ratio),
        group.closed,
        share(group.base_ratio)
    )
}

fn lead(group: &AlertGroup) -> String {
    group.lead_days.map_or_else(
        || "–".to_owned(),
        |[low, median, high]| format!("median {median:.0} days ({low:.0} to {high:.0})"),
    )
}

/// The names with the most alerts before caps.
fn busiest(counts: &BTreeMap<String, (usize, usize)>) -> String {
    let mut sorted: Vec<(&String, usize)> = counts.iter().map(|(k, (n, _))| (k, *n)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = sorted.iter().take(BUSIEST).map(|(name, count)| {
        let name = if name.is_empty() { "nobody" } else { name };
        format!("{name} {count}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Cells by row.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    fn row(
        &mut self,
        name: &str,
        figures: &[AlertFigures],
        cell: impl Fn(&AlertFigures) -> String,
    ) {
        let cells = figures.iter().map(cell).collect();
        self.rows.push((name.to_owned(), cells));
    }

    fn groups(
        &mut self,
        title: &str,
        figures: &[AlertFigures],
        groups: impl Fn(&AlertFigures) -> &BTreeMap<String, AlertGroup>,
    ) {
        let names = figures.iter().flat_map(|one| groups(one).keys().cloned());
        let names: BTreeSet<String> = names.collect();
        self.row(title, figures, |_| "alerts, came true".to_owned());
        for name in names {
            self.row(&format!("  {name}"), figures, |one| {
                groups(one).get(&name).map_or_else(
                    || "0".to_owned(),
                    |group| format!("{}, {}", group.alerts, outcomes(group)),
                )
            });
        }
    }

    fn lines(&self) -> Vec<String> {
        let length = |text: &String| text.chars().count();
        let names = self.rows.iter().map(|(name, _)| length(name)).max();
        let width = names.unwrap_or_default();
        let columns = self.rows.first().map_or(0, |(_, cells)| cells.len());
        let wide = |column: usize| {
            let cells = self.rows.iter().map(|(_, cells)| length(&cells[column]));
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(wide).collect();
        let mut lines = Vec::new();
        for (name, cells) in &self.rows {
            let mut line = format!("{name:width$}");
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(&format!("  {cell:width$}"));
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }
}
