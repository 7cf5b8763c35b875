//! The fit of the data: how many references of the first rows find their target, said once.
//!
//! Names that do not meet raise no error: events hang on entities that nobody described. The words are
//! those of the report that commands over files print.

use leadpulse_schema::{Catalog, RowBatch, RowFit};

use crate::metrics::Metrics;

/// Rows before a report: fewer say little about the source.
const ENOUGH_ROWS: u64 = 1_000;
/// Rows after which the report is made, whether or not the topics were read to their end. It bounds
/// the memory: 8 bytes for each key that was described, about 16 for each that was named.
const MOST_ROWS: u64 = 2_000_000;

/// Counts over the first rows of a run, those that a restart applies again included.
#[derive(Debug)]
pub(crate) struct DataFit {
    rows: u64,
    /// `None` once the report was made.
    fit: Option<Box<RowFit>>,
}

impl DataFit {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        Self {
            rows: 0,
            fit: Some(Box::new(RowFit::new(catalog))),
        }
    }

    /// Counts rows, until the report is made.
    pub(crate) fn observe(&mut self, catalog: &Catalog, rows: &RowBatch) {
        if let Some(fit) = &mut self.fit {
            self.rows += rows.len() as u64;
            rows.iter().for_each(|row| fit.observe(catalog, row));
        }
    }

    /// Makes the report once it is due. Returns its sentences: a table that is read behind another
    /// makes references find nobody, so the report waits until the topics were read to their end.
    pub(crate) fn report(
        &mut self,
        catalog: &Catalog,
        caught_up: bool,
        metrics: &Metrics,
    ) -> Vec<String> {
        let is_due = caught_up && self.rows >= ENOUGH_ROWS || self.rows >= MOST_ROWS;
        let Some(fit) = self.fit.take_if(|_| is_due) else {
            return Vec::new();
        };
        for reference in fit.references() {
            metrics.reference_fit(catalog, &reference);
        }
        fit.remarks(catalog, caught_up)
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

    /// One account, and visits of which one in ten names it.
    fn rows(catalog: &Catalog, visits: u64) -> RowBatch {
        let mut batch = RowBatch::new();
        let mut add = |table: &str, id: String, account: Option<&str>| {
            let table = catalog.table(table).unwrap();
            let at = Position::default();
            let mut row = batch.start(catalog, table.id, Operation::Upsert, at, 1);
            row.set(table.key, Value::Text(&id));
            if let Some(account) = account {
                row.set(table.owners[0], Value::Text(account));
            }
            row.finish();
        };
        add("accounts", "acme".into(), None);
        for visit in 0..visits {
            let account = if visit % 10 == 0 { "acme" } else { "ACME" };
            add("visits", visit.to_string(), Some(account));
        }
        batch
    }

    #[test]
    fn references_that_find_nobody_are_said_once_when_the_topics_were_read() {
        let catalog = Catalog::from_json(&[("a", ACCOUNTS), ("v", VISITS)]).unwrap();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let mut fit = DataFit::new(&catalog);
        fit.observe(&catalog, &rows(&catalog, 100));
        assert!(fit.report(&catalog, true, &metrics).is_empty(), "few rows");
        fit.observe(&catalog, &rows(&catalog, 1_000));
        assert!(
            fit.report(&catalog, false, &metrics).is_empty(),
            "more is to come"
        );
        let said = fit.report(&catalog, true, &metrics);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].contains("visits.account: 990 of 1100 references find nobody"),
            "{said:?}"
        );
        assert!(fit.report(&catalog, true, &metrics).is_empty(), "said once");
        let lost = registry
            .gather()
            .into_iter()
            .find(|family| family.name() == "leadpulse_references_lost");
        let lost = lost.expect("the metric is registered");
        assert_eq!(lost.get_metric()[0].get_gauge().get_value(), 990.0);
    }
}
