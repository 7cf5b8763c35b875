//! The memory of the worker without a person: scores, explanations, alerts that wait, work lists,
//! and notes of people.

use std::sync::Arc;

use leadpulse_graph::{CellRef, EntityId, ErasedRows, Reasons};

use super::super::Machine;
use super::super::admit::AdmittedRows;
use super::super::state::WorkerState;
use super::ErasedNames;

impl Machine {
    /// Forgets a person whom the graph has forgotten.
    pub(super) fn forget(
        &mut self,
        rows: &ErasedRows,
        names: &ErasedNames,
        admitted: &mut AdmittedRows,
    ) {
        let tasks = self.given.tasks.len();
        let state = &mut self.state;
        for (entity, _, _) in &rows.entities {
            (0..tasks).for_each(|task| state.forget_entity(task, *entity));
        }
        let revisits = std::mem::take(&mut state.revisits).into_iter();
        let is_gone = |entity: EntityId| rows.entities.iter().any(|(gone, ..)| *gone == entity);
        state.revisits = revisits.filter(|(.., entity)| !is_gone(*entity)).collect();
        admitted.erasing.is_in_caps |= state
            .caps
            .forget(|draft| names.has(Some(&draft.entity_type), &draft.entity_id));
        let changes = state.said.forget(names, &self.given.catalog);
        admitted.said.rulings |= changes.rulings;
        admitted.said.verdicts |= changes.verdicts;
        self.forget_in_lists(names, admitted);
        self.forget_reasons(&rows.cells, admitted);
        self.state.erased.push(names.clone());
    }

    /// Drops the explanations of entities whose cells contained or named the person: their evidence
    /// may be of the person's events.
    fn forget_reasons(&mut self, cells: &[CellRef], admitted: &mut AdmittedRows) {
        let state = &mut self.state;
        for at in cells {
            for node in &state.graph.cell(*at).nodes {
                for task in 0..self.given.tasks.len() {
                    let key = (task, node.entity);
                    state.explained.remove(&key);
                    if state.tracked.contains_key(&key) {
                        admitted.erasing.named_in.insert(key);
                    }
                }
            }
        }
    }

    /// Takes the person off the work lists that were written last.
    fn forget_in_lists(&mut self, names: &ErasedNames, admitted: &mut AdmittedRows) {
        let lists: Vec<_> = self.state.lists.iter().collect();
        let changed: Vec<_> = lists
            .into_iter()
            .filter_map(|(key, list)| {
                let less = list.without(&|table, key| names.has(table, key))?;
                Some((key.clone(), Arc::new(less)))
            })
            .collect();
        for (key, list) in changed {
            self.state.lists.insert(key.clone(), list);
            admitted.erasing.lists.insert(key);
        }
    }

    /// Adds the entities whose records named a person to those that are explained and written anew,
    /// and their cells to those that are scored.
    pub(in crate::machine) fn want_unnamed(
        &self,
        admitted: &AdmittedRows,
        dirty: &mut Vec<(CellRef, Reasons)>,
        wanted: &mut std::collections::BTreeSet<(usize, EntityId)>,
    ) {
        for (task, entity) in &admitted.erasing.named_in {
            let Some(place) = self.state.graph.directory().place(*entity) else {
                continue;
            };
            if let Err(index) = dirty.binary_search_by_key(&place.cell, |(at, _)| *at) {
                dirty.insert(index, (place.cell, Reasons::EVENT));
            }
            wanted.insert((*task, *entity));
        }
    }
}

impl WorkerState {
    fn forget_entity(&mut self, task: usize, entity: EntityId) {
        let key = (task, entity);
        if let Some(tracked) = self.tracked.remove(&key) {
            self.standings[task].replace(tracked.ranked_by(), None);
        }
        self.explained.remove(&key);
        self.unexplained.remove(&key);
        if let Some(rescoring) = &mut self.rescoring {
            rescoring.forget(task, entity);
        }
    }
}
