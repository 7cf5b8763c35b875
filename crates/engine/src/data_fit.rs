//! The fit of the data: how many references of the first rows find their target, said once in the
//! life of a state.
//!
//! Names that do not meet raise no error: events hang on entities that nobody described. The words are
//! those of the report that commands over files print.

use std::time::Duration;

use leadpulse_schema::{Catalog, Row, RowBatch, RowFit};

use crate::metrics::Metrics;

/// Rows before a report: fewer say little about the source.
const ENOUGH_ROWS: u64 = 1_000;
/// Rows after which the report is made, whether or not the topics were read to their end. It bounds
/// the memory: 8 bytes for each key that was described, about 16 for each that was named.
const MOST_ROWS: u64 = 2_000_000;
/// Time between the end of the backlog and the report. At the first start the topics may be empty:
/// their ends are reached at once, and tables and events arrive side by side.
const SETTLED: Duration = Duration::from_secs(60);
/// Events of an epoch that are counted, spread over it evenly. A share needs no more: that of 2,000
/// is known to two points of a hundred, and the engine's thread hashes each reference of the rest
/// for nothing. Entities are counted one by one: a reference to one left out would find nobody.
const MOST_EVENTS: usize = 2_000;

/// Counts over the first rows of a run, those that a restart applies again included.
#[derive(Debug)]
pub(crate) struct DataFit {
    rows: u64,
    /// `None` once the report was made.
    fit: Option<Box<RowFit>>,
    caught_up_at: Option<Duration>,
}

impl DataFit {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        Self {
            rows: 0,
            fit: Some(Box::new(RowFit::new(catalog))),
            caught_up_at: None,
        }
    }

    /// Makes no report: the rows that entities were described by lie in a stored state, and only
    /// those after it are read.
    pub(crate) fn leave_out(&mut self) {
        self.fit = None;
    }

    /// Counts rows, until the report is made.
    pub(crate) fn observe(&mut self, catalog: &Catalog, rows: &RowBatch) {
        if let Some(fit) = &mut self.fit {
            self.rows += rows.len() as u64;
            let is_event = |row: &Row<'_>| !catalog.table_at(row.table()).is_entity();
            let apart = rows.iter().filter(is_event).count().div_ceil(MOST_EVENTS);
            let mut events = 0_u32;
            for row in rows.iter() {
                let is_event = is_event(&row);
                events += u32::from(is_event);
                // Multiples of the golden ratio fall evenly, in step with no order of the rows.
                let place = events.wrapping_mul(0x9E37_79B9) as usize;
                if !is_event || place <= u32::MAX as usize / apart {
                    fit.observe(catalog, row);
                }
            }
        }
    }

    /// Makes the report once it is due. Returns its sentences. A table that is read behind another
    /// makes references find nobody, so the report waits for some time after the topics were read
    /// to their end (`caught_up`), at `now` of a clock that never goes back.
    pub(crate) fn report(
        &mut self,
        catalog: &Catalog,
        caught_up: bool,
        now: Duration,
        metrics: &Metrics,
    ) -> Vec<String> {
        if self.fit.is_none() {
            return Vec::new();
        }
        let is_settled = caught_up && {
            let at = *self.caught_up_at.get_or_insert(now);
            now.saturating_sub(at) >= SETTLED
        };
        if is_settled && self.rows >= ENOUGH_ROWS || self.rows >= MOST_ROWS {
            return self.report_now(catalog, caught_up, metrics);
        }
        Vec::new()
    }

    /// Makes the report if there are enough rows: all that there will be were read.
    pub(crate) fn report_at_the_end(
        &mut self,
        catalog: &Catalog,
        metrics: &Metrics,
    ) -> Vec<String> {
        if self.rows < ENOUGH_ROWS {
            return Vec::new();
        }
        self.report_now(catalog, true, metrics)
    }

    fn report_now(&mut self, catalog: &Catalog, is_whole: bool, metrics: &Metrics) -> Vec<String> {
        let Some(fit) = self.fit.take() else {
            return Vec::new();
        };
        for reference in fit.references() {
            metrics.reference_fit(catalog, &reference);
        }
        fit.remarks(catalog, is_whole)
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::{Operation, Position, Value};
    use prometheus::Registry;

    use super::*;

    const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
    const VISITS: &str = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;

    /// A row of a key, which names an account where one is given.
    fn add(batch: &mut RowBatch, catalog: &Catalog, table: &str, id: &str, account: Option<&str>) {
        let table = catalog.table(table).unwrap();
        let mut row = batch.start(catalog, table.id, Operation::Upsert, Position::default(), 1);
        row.set(table.key, Value::Text(id));
        if let Some(account) = account {
            row.set(table.owners[0], Value::Text(account));
        }
        row.finish();
    }

    /// One account, and visits of which one in ten names it.
    fn rows(catalog: &Catalog, visits: u64) -> RowBatch {
        let mut batch = RowBatch::new();
        add(&mut batch, catalog, "accounts", "acme", None);
        for visit in 0..visits {
            let account = if visit % 10 == 0 { "acme" } else { "ACME" };
            let id = visit.to_string();
            add(&mut batch, catalog, "visits", &id, Some(account));
        }
        batch
    }

    #[test]
    fn references_that_find_nobody_are_said_once_when_the_topics_were_read() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let mut fit = DataFit::new(&catalog);
        let start = Duration::from_secs(7);
        let settled = start + SETTLED;
        fit.observe(&catalog, &rows(&catalog, 100));
        assert!(fit.report(&catalog, true, start, &metrics).is_empty());
        let few = fit.report(&catalog, true, settled, &metrics);
        assert!(few.is_empty(), "few rows");
        fit.observe(&catalog, &rows(&catalog, 1_000));
        let early = fit.report(&catalog, false, settled, &metrics);
        assert!(early.is_empty(), "more is to come");
        let said = fit.report(&catalog, true, settled, &metrics);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].contains("visits.account: 990 of 1100 references find nobody"),
            "{said:?}"
        );
        let again = fit.report(&catalog, true, settled * 2, &metrics);
        assert!(again.is_empty(), "said once");
        let lost = registry
            .gather()
            .into_iter()
            .find(|family| family.name() == "leadpulse_references_lost");
        let lost = lost.expect("the metric is registered");
        assert_eq!(lost.get_metric()[0].get_gauge().get_value(), 990.0);
    }

    #[test]
    fn events_that_come_before_their_tables_are_waited_for() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let mut fit = DataFit::new(&catalog);
        let mut accounts = RowBatch::new();
        add(&mut accounts, &catalog, "accounts", "ACME", None);
        let start = Duration::from_secs(7);
        fit.observe(&catalog, &rows(&catalog, 2_000));
        let said = fit.report(&catalog, true, start, &metrics);
        assert!(said.is_empty(), "{said:?}");
        fit.observe(&catalog, &accounts);
        let said = fit.report(&catalog, true, start + SETTLED, &metrics);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn the_end_of_all_topics_is_waited_for_no_longer() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let mut fit = DataFit::new(&catalog);
        fit.observe(&catalog, &rows(&catalog, 1_000));
        let said = fit.report(&catalog, true, Duration::ZERO, &metrics);
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(fit.report_at_the_end(&catalog, &metrics).len(), 1);
    }

    #[test]
    fn of_a_full_epoch_some_events_are_counted_and_the_share_is_the_same() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
        let mut fit = DataFit::new(&catalog);
        fit.observe(&catalog, &rows(&catalog, 20_000));
        let counted = &fit.fit.as_ref().unwrap().references()[0];
        assert!((1_900..2_100).contains(&counted.named), "{counted:?}");
        assert!((counted.share() - 0.1).abs() < 0.01, "{counted:?}");
    }
}
