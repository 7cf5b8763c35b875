//! The (account, moment) rows that every model is judged on, with what the baselines see of them
//! and what became of them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use leadpulse_history::Files;
use leadpulse_schema::{Catalog, Role, RowBatch};

use crate::calendar::{Calendar, HORIZON_DAYS};
use crate::columns::Moment;
use crate::history::{DAY_MS, History};
use crate::rules::Yardstick;

/// Rows read at a time.
const CHUNK_ROWS: usize = 8192;
/// The silence of an account without events.
const NEVER_MS: i64 = 100_000 * DAY_MS;

/// Rows by moment, ascending, and what is known of them.
#[derive(Default)]
pub struct Rows {
    /// Key of each account.
    pub keys: Vec<String>,
    /// (moment, account)
    pub rows: Vec<(i64, u32)>,
    /// True if the account buys within the window; meaningless where the history ends before.
    pub won: Vec<bool>,
    pub points: Vec<f64>,
    pub icp: Vec<f64>,
    /// Minus the days since the newest event; a large negative number where there is none.
    pub recency: Vec<f64>,
    /// True while the account has an open deal.
    pub has_deal: Vec<bool>,
    /// Columns, all rows one after the other.
    pub features: Vec<f32>,
    pub columns: usize,
    /// The first so many are the flat ones.
    pub flat_columns: usize,
}

impl Rows {
    /// One pass over the files.
    pub fn collect(catalog: &Arc<Catalog>, files: &Files, calendar: &Calendar) -> Result<Self> {
        let mut history = History::default();
        let mut found = Self::default();
        let mut replay = files.replay()?;
        let mut batch = RowBatch::new();
        for at_ms in calendar.all().into_iter().chain([i64::MAX]) {
            while replay.read(at_ms, CHUNK_ROWS, &mut batch)? > 0 {
                batch.iter().for_each(|row| history.take(catalog, row));
                batch.clear();
            }
            if at_ms < i64::MAX {
                found.describe(&history, at_ms);
            }
        }
        found.keys = history
            .accounts
            .iter()
            .map(|account| account.key.clone())
            .collect();
        found.won = found
            .rows
            .iter()
            .map(|(at_ms, account)| {
                wins_within(&history.accounts[*account as usize].wins_ms, *at_ms)
            })
            .collect();
        Ok(found)
    }

    fn describe(&mut self, history: &History, at_ms: i64) {
        let yardstick = Yardstick::new(history);
        let moment = Moment::new(history, at_ms);
        for (number, account) in history.accounts.iter().enumerate() {
            // A second record of an account is nobody of its own.
            if account.gone || account.industry == 0 {
                continue;
            }
            self.rows.push((at_ms, number as u32));
            self.points.push(yardstick.points(history, number, at_ms));
            self.icp.push(yardstick.icp(history, number));
            let newest_ms = account.newest_ms.iter().max().copied().flatten();
            let silent_ms = newest_ms.map_or(NEVER_MS, |newest_ms| at_ms - newest_ms);
            self.recency.push(-(silent_ms as f64) / DAY_MS as f64);
            let mut deals = account.deals.iter().map(|deal| &history.deals[*deal]);
            self.has_deal.push(deals.any(|deal| deal.stage.is_some()));
            let start = self.features.len();
            self.flat_columns = moment.describe(number, &mut self.features);
            self.columns = self.features.len() - start;
        }
    }

    /// Indices of the rows of these moments.
    pub fn at(&self, moments: &[i64]) -> Vec<usize> {
        let of = |at_ms: i64| {
            self.rows.partition_point(|(t, _)| *t < at_ms)
                ..self.rows.partition_point(|(t, _)| *t <= at_ms)
        };
        moments.iter().flat_map(|at_ms| of(*at_ms)).collect()
    }

    /// Outcomes of these rows.
    pub fn outcomes(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|row| self.won[*row]).collect()
    }

    /// Values given by key and moment, for these rows.
    pub fn join(&self, rows: &[usize], values: &HashMap<(String, i64), f64>) -> Result<Vec<f64>> {
        let of_row = |row: &usize| {
            let (at_ms, account) = self.rows[*row];
            let key = &self.keys[account as usize];
            values
                .get(&(key.clone(), at_ms))
                .copied()
                .with_context(|| format!("nothing is forecast for {key} at {at_ms}"))
        };
        rows.iter().map(of_row).collect()
    }
}

fn wins_within(wins_ms: &[i64], at_ms: i64) -> bool {
    wins_ms
        .iter()
        .any(|won_ms| *won_ms > at_ms && *won_ms <= at_ms + HORIZON_DAYS * DAY_MS)
}

/// Known time of the first event.
pub fn first_event_ms(catalog: &Catalog, files: &Files) -> Result<i64> {
    let mut replay = files.replay()?;
    let mut batch = RowBatch::new();
    while replay.read(i64::MAX, CHUNK_ROWS, &mut batch)? > 0 {
        if let Some(row) = batch
            .iter()
            .find(|row| catalog.table_at(row.table()).role == Role::Event)
        {
            return Ok(row.known_ms());
        }
        batch.clear();
    }
    anyhow::bail!("the files hold no events")
}
