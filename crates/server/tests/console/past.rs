//! Jobs on the files of a past that answer at once, and the figures that they give.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leadpulse_records::ScorePoint;
use leadpulse_server::{
    ArchiveFault, BacktestRequest, HistoryJobError, HistoryJobs, LabelRequest, PastCursor,
    PastPoints, PastQuestion, ScoreArchive, SimulationRequest,
};
use serde_json::{Value, json};

/// Two pages of older points: six of them half a day apart, then none.
pub struct OldPoints;

impl ScoreArchive for OldPoints {
    fn before(&self, question: &PastQuestion) -> Result<PastPoints, ArchiveFault> {
        let PastCursor::Moment(before_ms) = question.before else {
            return Ok(PastPoints {
                looked_at: 812,
                ..PastPoints::default()
            });
        };
        let point = |index: i64| ScorePoint {
            as_of: before_ms - 43_200_000 * index,
            probability: Some(0.05 + 0.01 * index as f64),
        };
        Ok(PastPoints {
            points: (1..=6).rev().map(point).collect(),
            next: Some(PastCursor::Offset(7)),
            looked_at: 4000,
        })
    }
}

/// One past. Its backtests before 2000 go on until they are ended.
pub struct OnePast;

impl HistoryJobs for OnePast {
    fn simulate(
        &self,
        request: &SimulationRequest,
        _: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let group = |alerts: u64, sent: u64| {
            json!({"alerts": alerts, "sent": sent, "closed": 40, "came_true": 9,
            "came_true_ratio": 0.225, "base_ratio": 0.043, "open": 3, "open_came_true": 0, "lead_days": [9.0, 21.0, 44.0]})
        };
        let policy = |name: &str, alerts: u64| {
            json!({
                "policy": name, "days": request.days, "owners": 4, "accounts": 61,
                "before_caps": {"mean": 0.9, "highest": 7}, "after_caps": {"mean": 0.7, "highest": 3},
                "rising": group(alerts, alerts - 8), "all": group(alerts + 20, alerts + 5),
                "by_type": {"threshold_up": group(alerts, alerts - 8)}, "by_severity": {}, "by_task": {},
                "by_owner": {}, "by_day": {}, "resolved": 12, "held_out": 2,
                "rises": {"rises": 90, "watched": 80, "reversed": 10, "reversed_ratio": 0.125},
                "held_back": {"cooldown": 31, "unconfirmed": 12},
            })
        };
        Ok(json!({"policies": [policy("leadpulse.toml", 64), policy("requested", 41)]}))
    }

    fn labels(
        &self,
        request: &LabelRequest,
        _: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        let rule = request.anchors.as_deref().unwrap_or("every 30d");
        if rule == "weekly" {
            let words = "anchors: \"weekly\" is not a rule for anchors; write e.g. \"every 10d\"";
            return Err(HistoryJobError::Refused(words.into()));
        }
        let label = |index: usize| {
            json!({"entity": format!("A{index:04}"), "time": 1_735_689_600_000_i64,
                   "label": f64::from(u8::from(index.is_multiple_of(4)))})
        };
        let first: Vec<Value> = (1..=request.first.unwrap_or(20)).map(label).collect();
        Ok(json!({
            "query": request.query, "entity": "accounts", "horizon_days": 90.0,
            "meaning": ["for every row of accounts"],
            "remarks": ["9 in 10 windows are empty: take a longer one"],
            "labels": {
                "from": 1_704_067_200_000_i64, "until": 1_760_486_400_000_i64, "rule": rule,
                "anchors": 18, "asked": 2340, "labelled": 1950, "positive": 84, "base_rate": 84.0 / 1950.0,
                "entities": 130, "positive_entities": 61, "open": 390, "dropped": 0, "rows": 412,
                "unowned_rows": 3, "unowned_example": "opportunities with account_id A9001",
            },
            "first": first,
        }))
    }

    fn backtest(
        &self,
        request: &BacktestRequest,
        end: &Arc<AtomicBool>,
    ) -> Result<Value, HistoryJobError> {
        if request.from.as_deref() < Some("2000") && request.from.is_some() {
            while !end.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            return Err(HistoryJobError::Ended);
        }
        let task = request.task.as_deref().unwrap_or("account-wins-90d");
        let estimate =
            |value: f64| json!({"value": value, "low": value - 0.04, "high": value + 0.04});
        let mut found = evaluation();
        found["rows"] = 1800.into();
        found["entities"] = 130.into();
        found["positives"] = 77.into();
        found["model"] = json!({"auroc": estimate(0.781), "average_precision": estimate(0.21), "auroc_behind": null});
        Ok(json!({
            "bundle": "7f3a9c21", "from": 1_735_689_600_000_i64,
            "tasks": [{"task": task, "rows": 1950, "scored": 1950,
                "labels": "1800 labels of 130 entities, base rate 0.0428 (77 positive, of 58 entities); 150 open, 0 dropped",
                "evaluation": found}],
        }))
    }
}

/// Tables of a bundle: tenths, reliability, simple rules, cohorts.
pub fn evaluation() -> Value {
    let tenth = |index: usize| {
        let rate = 0.16 / (1.0 + index as f64 * index as f64 / 4.0);
        json!({"rows": 180.0, "predicted": rate * 0.9, "rate": rate, "lift": rate / 0.043,
               "captured": 1.0 - 0.6 / (1.0 + index as f64)})
    };
    let bin = |index: usize| {
        let predicted = 0.01 * (index * index) as f64 / 8.0;
        json!({"rows": 120.0, "predicted": predicted, "observed": predicted * 1.1,
               "null_low": predicted * 0.6, "null_high": predicted * 1.5 + 0.01})
    };
    let estimate = |value: f64| json!({"value": value, "low": value - 0.04, "high": value + 0.04});
    let part = |low: f64, predicted: f64, gap: f64| {
        json!({"low": low, "high": low + 1.0, "rows": 400, "entities": 90, "share": 0.22,
               "predicted": predicted, "observed": predicted * 1.2, "gap_in_errors": gap})
    };
    json!({
        "first_anchor": "2025-01-01", "last_anchor": "2025-06-01", "outcomes": 70, "base_rate": 0.043,
        "model": null, "deciles": (0..10).map(tenth).collect::<Vec<_>>(),
        "calibration": {"ece": 0.013, "null_ece": 0.009, "null_ece_high": 0.017,
            "mean_predicted": 0.041, "rate": 0.043, "bins": (1..12).map(bin).collect::<Vec<_>>()},
        "baselines": [{"name": "recency (time since the last event)", "figures": {
            "auroc": estimate(0.69), "average_precision": estimate(0.13), "auroc_behind": null}}],
        "cohorts": [{"column": "activities/14d/sum", "group": "engagement", "spread": 0.4,
            "parts": [part(0.0, 0.01, 0.4), part(1.0, 0.06, 3.4)]}],
    })
}
