//! Rows of an epoch under the list of erased subjects.
//!
//! Requests of a part of an epoch take effect before its other rows, so that their place among the
//! partitions does not matter. Then each row is taken, refused, or taken without what it says of an
//! erased subject:
//!
//! | row | outcome |
//! |---|---|
//! | of an erased key, or of a member with an erased address | refused |
//! | an event or a decision whose first owner is an erased person | refused |
//! | an event whose only owner is an erased account | refused |
//! | any other with a reference to an erased key, or an erased address | taken with null there |

use leadpulse_graph::{RowOutcome, person_address};
use leadpulse_schema::{Field, Role, Row, RowBatch, Table, TableId, Value};

use super::super::Machine;
use super::super::admit::AdmittedRows;

/// The rows of a part that the graph sees, and the outcomes of all others.
pub(in crate::machine) struct Screened {
    pub rows: RowBatch,
    /// By row of the part: the outcome of one that the graph does not see.
    settled: Vec<Option<RowOutcome>>,
}

impl Screened {
    /// The outcomes of all rows of the part, from those of the rows that the graph saw.
    pub fn all(self, seen: Vec<RowOutcome>) -> Vec<RowOutcome> {
        let mut seen = seen.into_iter();
        let outcome = |settled: Option<RowOutcome>| settled.or_else(|| seen.next());
        self.settled.into_iter().filter_map(outcome).collect()
    }
}

/// The way to treat a row.
enum Screening {
    Take,
    Refuse,
    Rewrite,
}

impl Machine {
    /// Lets requests to erase take effect, and separates rows of erased subjects. `None` where
    /// there is neither.
    pub(in crate::machine) fn screen(
        &mut self,
        rows: &RowBatch,
        admitted: &mut AdmittedRows,
    ) -> Option<Screened> {
        let catalog = self.given.catalog.clone();
        let is_request = |row: &Row<'_>| catalog.table_at(row.table()).erasure.is_some();
        let has_requests = rows.iter().any(|row| is_request(&row));
        if !has_requests && self.state.erasures.is_empty() {
            return None;
        }
        let mut settled = vec![None; rows.len()];
        for (row, settled) in rows.iter().zip(&mut settled) {
            if let Some(fields) = catalog.table_at(row.table()).erasure {
                *settled = Some(self.take_request(row, fields, admitted));
            }
        }
        let screenings: Vec<Screening> = rows.iter().map(|row| self.screening(row)).collect();
        let is_taken = |screening: &Screening| matches!(screening, Screening::Take);
        if !has_requests && screenings.iter().all(is_taken) {
            return None;
        }
        let mut taken = RowBatch::new();
        for ((row, settled), screening) in rows.iter().zip(&mut settled).zip(screenings) {
            if settled.is_some() {
                continue;
            }
            match screening {
                Screening::Take => taken.push_copy(&catalog, row),
                Screening::Refuse => *settled = Some(RowOutcome::Erased),
                Screening::Rewrite => {
                    let is_kept = |field: &Field, text: &str| !self.names_erased(field, text);
                    taken.push_copy_where(&catalog, row, is_kept);
                }
            }
        }
        Some(Screened {
            rows: taken,
            settled,
        })
    }

    fn screening(&self, row: Row<'_>) -> Screening {
        let table = self.given.catalog.table_at(row.table());
        if self.is_of_erased(table, row) {
            return Screening::Refuse;
        }
        let others = table.fields.iter().filter(|field| field.id != table.key);
        let mut texts = others.flat_map(|field| texts(row.get(field.id)).map(move |t| (field, t)));
        match texts.any(|(field, text)| self.names_erased(field, text)) {
            true => Screening::Rewrite,
            false => Screening::Take,
        }
    }

    /// Whether a row is one of an erased subject.
    fn is_of_erased(&self, table: &Table, row: Row<'_>) -> bool {
        match table.role {
            Role::Root | Role::Member => {
                self.is_erased_entity(table.id, row.key())
                    || table.role == Role::Member && self.has_erased_address(table, row)
            }
            Role::Event | Role::Override => self.has_erased_owner(table, row),
            Role::Hub | Role::Staff | Role::Feedback | Role::Erasure => false,
        }
    }

    fn has_erased_address(&self, table: &Table, row: Row<'_>) -> bool {
        let rules = self.state.graph.shared();
        let fields = rules.layout.entity(table.id).match_fields.iter();
        let mut texts = fields.filter_map(|field| row.get(*field).text());
        texts.any(|text| self.is_erased_address(text))
    }

    /// Whether the first owner of a row is an erased person, or its only owner an erased account.
    fn has_erased_owner(&self, table: &Table, row: Row<'_>) -> bool {
        let mut owners = leadpulse_graph::owners_of(&self.given.catalog, row);
        let Some((first, key)) = owners.next() else {
            return false;
        };
        let is_person = self.given.catalog.table_at(first).role == Role::Member;
        let is_alone = owners.all(|(table, key)| self.is_erased_entity(table, key));
        let is_decision = table.role == Role::Override;
        (is_person || is_alone || is_decision) && self.is_erased_entity(first, key)
    }

    fn is_erased_entity(&self, table: TableId, key: &str) -> bool {
        let (erasures, graph) = (&self.state.erasures, &self.state.graph);
        erasures.has_entity(&self.given.erasure_key, graph, table, key)
    }

    fn is_erased_address(&self, text: &str) -> bool {
        let address = text.contains('@').then(|| person_address(text)).flatten();
        address.is_some_and(|address| {
            let key = &self.given.erasure_key;
            self.state.erasures.has_address(key, &address)
        })
    }

    /// Whether the text of a field names an erased subject.
    fn names_erased(&self, field: &Field, text: &str) -> bool {
        let reference = field.reference;
        reference.is_some_and(|to| self.is_erased_entity(to.table, text))
            || self.is_erased_address(text)
    }
}

/// The texts of a value: none, one or several.
fn texts(value: Value<'_>) -> impl Iterator<Item = &str> {
    let list = match value {
        Value::List(list) => Some(list.iter()),
        _ => None,
    };
    value.text().into_iter().chain(list.into_iter().flatten())
}
