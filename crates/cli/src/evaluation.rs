//! Evaluations for people: a few lines on the terminal, a report as files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use leadpulse_learn::{Against, Estimate, Report, TaskEvaluation};

/// Writes `report.html` and `report.json` to a folder and prints where they are.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    for (name, text) in [("report.json", json), ("report.html", report.html())] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| {
            format!(
                "{} cannot be written; check the folder, or name another",
                path.display()
            )
        })?;
        if name == "report.html" {
            say!("report      {}", path.display());
        }
    }
    Ok(())
}

fn shown(name: &str, estimate: Option<Estimate>) -> String {
    estimate.map_or_else(
        || format!("{name} –"),
        |e| format!("{name} {:.4} ({:.4} to {:.4})", e.value, e.low, e.high),
    )
}

/// Prints a challenger's figures on the same rows, and the differences.
pub fn show_against(found: &Against) {
    let auroc = found.challenger.auroc;
    say!(
        "  against    {}: AUROC {}, log loss {:.4} on {} rows that both have scored",
        found.name,
        auroc.map_or("–".into(), |auroc| format!("{auroc:.4}")),
        found.challenger.log_loss,
        found.rows
    );
    say!(
        "             {}, {}",
        shown("AUROC ahead by", found.auroc_ahead),
        shown("log loss over it by", Some(found.log_loss_over))
    );
}

/// Prints the figures of a task, each beside what chance or a simple rule gives.
pub fn show(task: &TaskEvaluation) {
    if let Some(found) = &task.regression {
        let spearman = found.spearman.map_or("–".to_owned(), |x| format!("{x:.4}"));
        say!(
            "  metrics    MAE {:.4}, MAE of log1p {:.4}, Spearman {spearman}",
            found.mae,
            found.mae_log1p
        );
    }
    if let Some(model) = &task.model {
        say!(
            "  metrics    {}, {}",
            shown("AUROC", model.auroc),
            shown("AP", model.average_precision)
        );
    }
    if let Some(losses) = &task.losses {
        say!(
            "             {}, {}, {:+.4} beside the base rate",
            shown("log loss", Some(losses.log_loss)),
            shown("Brier", Some(losses.brier)),
            losses.log_loss_over_base_rate.value
        );
    }
    if let Some(found) = &task.calibration {
        say!(
            "             ECE {:.4} over {} bins of as many rows, of true probabilities {:.4} (at most \
             {:.4} in 95 %)",
            found.ece,
            found.bins.len(),
            found.null_ece,
            found.null_ece_high
        );
    }
    for rule in &task.baselines {
        say!(
            "  beside     {}: {}, the model is {}",
            rule.name,
            shown("AUROC", rule.figures.auroc),
            shown("ahead by", rule.figures.auroc_behind)
        );
    }
    if let Some(found) = &task.against {
        show_against(found);
    }
    if let Some(part) = &task.without_open_deal {
        say!(
            "  no deal    {} rows without an open deal, {} positive: {}, log loss {:+.4} beside \
             their rate",
            part.rows,
            part.positives,
            shown("AUROC", part.model.auroc),
            part.losses.log_loss_over_base_rate.value
        );
    }
    say!(
        "  evidence   {} outcomes of {} entities at {} anchors",
        task.outcomes,
        task.positive_entities,
        task.anchors
    );
    if let Some(quality) = &task.quality {
        say!("  quality    {}", quality.grade.words());
        for reason in &quality.reasons {
            say!("             {reason}");
        }
    }
}
