//! Outcomes of records and the entities that they are about, for people who ask for one.

use std::sync::Arc;

use leadpulse_graph::RowOutcome;
use leadpulse_records::{TRACEPARENT, TraceContext};
use leadpulse_schema::{Role, Row, RowBatch, TableId};

use super::admit::{AdmittedRows, outcome_in_words};
use super::{Cut, Machine};
use crate::ports::RecordBatch;
use crate::read_model::{TRACED_OF_A_TICK, TracedRecord};

/// Traces of one epoch's records that are noted, at most: a link is 60 bytes of a span.
const LINKED_TRACES: usize = 32;

/// A row with the record that it is of.
pub(super) struct TracedRow {
    /// Index of the record.
    record: u32,
    outcome: RowOutcome,
    table: Arc<str>,
    key: Arc<str>,
    entity: Option<(Arc<str>, Arc<str>)>,
    account_id: Option<Arc<str>>,
}

/// An entity by table and key, and the key of its account.
type KnownEntity = (Arc<str>, Arc<str>, Option<Arc<str>>);

impl Machine {
    /// Notes the last rows of a batch, after it was applied; of erased persons none.
    pub(super) fn trace(
        &self,
        rows: &RowBatch,
        record_of: &[u32],
        outcomes: &[RowOutcome],
        traced: &mut Vec<TracedRow>,
    ) {
        let first = rows.len().saturating_sub(TRACED_OF_A_TICK);
        for index in first..rows.len() {
            if outcomes[index] == RowOutcome::Erased {
                continue;
            }
            let row = rows.row(index);
            let entity = self.entity_of(row);
            traced.push(TracedRow {
                record: record_of[index],
                outcome: outcomes[index],
                table: self
                    .given
                    .catalog
                    .table_at(row.table())
                    .name
                    .as_str()
                    .into(),
                key: row.key().into(),
                account_id: entity.as_ref().and_then(|(_, _, account)| account.clone()),
                entity: entity.map(|(table, key, _)| (table, key)),
            });
        }
    }

    /// The entity that a row is about, and its account: itself, or the first known owner of an event.
    fn entity_of(&self, row: Row<'_>) -> Option<KnownEntity> {
        let catalog = &self.given.catalog;
        let table = catalog.table_at(row.table());
        if matches!(table.role, Role::Root | Role::Member) {
            return self.known_entity(row.table(), row.key());
        }
        let references = table.fields.iter().filter_map(|field| {
            let owner = field.reference?.table;
            Some((owner, row.get(field.id).text()?))
        });
        let mut owners = references.filter(|(owner, _)| {
            matches!(catalog.table_at(*owner).role, Role::Root | Role::Member)
        });
        owners.find_map(|(owner, key)| self.known_entity(owner, key))
    }

    fn known_entity(&self, table: TableId, key: &str) -> Option<KnownEntity> {
        let graph = &self.state.graph;
        let (at, node) = graph.find(table, key)?;
        let account = graph.root_node(graph.cell(at));
        let directory = graph.directory();
        let name = graph.catalog().table_at(node.table).name.as_str().into();
        let account = account.map(|account| directory.key(account.entity).clone());
        Some((name, directory.key(node.entity).clone(), account))
    }

    /// Outcomes of an epoch's records, in the order of their rows; of a record with several rows that
    /// of the last one.
    pub(super) fn traced_records(
        &self,
        records: &RecordBatch,
        admitted: &mut AdmittedRows,
    ) -> Vec<TracedRecord> {
        let mut found: Vec<TracedRecord> = Vec::with_capacity(admitted.traced.len());
        let mut last = None;
        for row in std::mem::take(&mut admitted.traced) {
            if last == Some(row.record) {
                found.pop();
            }
            last = Some(row.record);
            let record = records.record(row.record as usize);
            let input = &self.state.partitions[record.partition() as usize];
            found.push(TracedRecord {
                topic: input.topic.as_str().into(),
                partition: input.partition,
                offset: record.offset(),
                epoch: 0,
                outcome: row.outcome.code(),
                remark: outcome_in_words(row.outcome),
                table: row.table,
                key: row.key,
                entity: row.entity,
                account_id: row.account_id,
            });
        }
        found
    }

    /// Traces that the records of a cut name in their headers, each once, in the order of the
    /// records. Nothing is looked at where no spans are exported.
    pub(super) fn linked_traces(&self, records: &RecordBatch, cut: &Cut) -> Vec<TraceContext> {
        let mut found = Vec::new();
        if !self.given.exports_spans {
            return found;
        }
        for record in records.iter() {
            let end = cut.positions.get(record.partition() as usize);
            if end.is_none_or(|end| record.offset() >= end.0) {
                continue;
            }
            for (name, value) in record.headers() {
                let context = match name.eq_ignore_ascii_case(TRACEPARENT) {
                    true => value.and_then(TraceContext::parse),
                    false => None,
                };
                if let Some(context) = context
                    && !found.contains(&context)
                {
                    found.push(context);
                }
            }
            if found.len() >= LINKED_TRACES {
                found.truncate(LINKED_TRACES);
                break;
            }
        }
        found
    }
}
