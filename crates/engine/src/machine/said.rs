//! Words of people about alerts: decisions about entities, and answers to alerts.
//!
//! Both come as rows of tables with a role of their own. The graph passes over them, so no score
//! depends on them. They are a function of the set of rows, and a restart applies the rows again.
//!
//! Decision: docs/decisions/0058-decisions-of-people-as-rows.md

use leadpulse_graph::RowOutcome;
use leadpulse_policy::OverrideKind;
use leadpulse_schema::{AlertVerdict, Catalog, Row, RowBatch};

use super::Machine;
use super::admit::AdmittedRows;
use super::erased::ErasedNames;
use crate::read_model::SaidView;

mod newest;
mod rulings;
mod verdicts;

use rulings::{Rulings, mark_due};
use verdicts::Verdicts;

/// Everything that people have said.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub rulings: Rulings,
    pub verdicts: Verdicts,
}

/// The parts that rows of an epoch changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SaidChanges {
    pub rulings: bool,
    pub verdicts: bool,
}

impl Said {
    /// Forgets decisions about a person, and what notes of others say of the person. Returns the
    /// parts that changed.
    pub fn forget(&mut self, names: &ErasedNames, catalog: &Catalog) -> SaidChanges {
        SaidChanges {
            rulings: self.rulings.forget_person(names, catalog),
            verdicts: self.verdicts.forget_person(names),
        }
    }
}

impl Machine {
    /// In: rows with their outcomes at the graph, which passes over what people say.
    /// Out: the outcomes of those rows; the cells of entities that were decided about are due.
    pub(super) fn admit_said(
        &mut self,
        rows: &RowBatch,
        bound_ms: Option<i64>,
        outcomes: &mut [RowOutcome],
        admitted: &mut AdmittedRows,
    ) {
        for (row, outcome) in rows.iter().zip(outcomes) {
            if outcome.is_accepted() {
                *outcome = self.hear(row, bound_ms, *outcome, &mut admitted.said);
            }
        }
    }

    /// The outcome of one row.
    fn hear(
        &mut self,
        row: Row<'_>,
        bound_ms: Option<i64>,
        at_graph: RowOutcome,
        changes: &mut SaidChanges,
    ) -> RowOutcome {
        let table = self.given.catalog.table_at(row.table());
        if table.role.is_learned() {
            return at_graph;
        }
        let now_ms = bound_ms.map_or(row.known_ms(), |bound_ms| bound_ms.min(row.known_ms()));
        let tolerance_ms = self.given.graph_options.future_tolerance_ms;
        // A wrong clock would win over everything that is said later.
        if row.event_ms() > now_ms.saturating_add(tolerance_ms) {
            return RowOutcome::Future;
        }
        let said = &mut self.state.said;
        if let Some(fields) = &table.overrides {
            let ruled = said.rulings.take(table, fields, row);
            changes.rulings |= ruled.outcome.is_accepted();
            mark_due(&mut self.state.graph, &ruled.subjects);
            ruled.outcome
        } else if let Some(fields) = &table.feedback {
            let outcome = said.verdicts.take(fields, row);
            changes.verdicts |= outcome.is_accepted();
            outcome
        } else {
            at_graph
        }
    }

    /// All that people have said and that is in force now.
    pub(crate) fn said_view(&self) -> SaidView {
        self.said_view_of(SaidChanges {
            rulings: true,
            verdicts: true,
        })
    }

    /// The parts whose views changed in an epoch: by rows, because entities were joined, or because
    /// a decision ended. `before` are `as_of` and the number of joined entities before the epoch.
    pub(super) fn said_since(
        &self,
        (before_ms, joined): (i64, usize),
        by_rows: SaidChanges,
    ) -> SaidChanges {
        let (state, rulings) = (&self.state, &self.state.said.rulings);
        let is_moved = !rulings.is_empty()
            && (joined != state.graph.joined_count()
                || rulings.has_end_within(before_ms, state.as_of.ms()));
        SaidChanges {
            rulings: by_rows.rulings || is_moved,
            ..by_rows
        }
    }

    /// The parts that changed.
    pub(super) fn said_view_of(&self, changes: SaidChanges) -> SaidView {
        let (state, said) = (&self.state, &self.state.said);
        let rulings = || said.rulings.view(&state.graph, state.as_of.ms());
        SaidView {
            rulings: changes.rulings.then(rulings),
            verdicts: changes.verdicts.then(|| said.verdicts.view()),
        }
    }

    /// Number of entities with a decision in force, by kind, and of alerts with a verdict.
    pub(crate) fn said_counts(&self) -> Vec<(SaidKind, u64)> {
        let (state, said) = (&self.state, &self.state.said);
        let rulings = said.rulings.counts(state.as_of.ms()).into_iter();
        let rulings = rulings.map(|(kind, count)| (SaidKind::Ruling(kind.name()), count));
        let verdicts = said.verdicts.counts().into_iter();
        let verdicts = verdicts.map(|(verdict, count)| (SaidKind::Verdict(verdict.name()), count));
        rulings.chain(verdicts).collect()
    }
}

/// A kind of what people say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaidKind {
    /// A decision of this kind.
    Ruling(&'static str),
    /// A verdict.
    Verdict(&'static str),
}

impl SaidKind {
    /// All kinds.
    pub fn all() -> [Self; 5] {
        let [pin, mute, exclude] = OverrideKind::ALL.map(|kind| Self::Ruling(kind.name()));
        let [accepted, rejected] = AlertVerdict::NAMES.map(Self::Verdict);
        [pin, mute, exclude, accepted, rejected]
    }
}
