//! Reasons of the entities that people look at first: the top of each task is kept explained.

use std::collections::BTreeSet;

use leadpulse_graph::{CellRef, EntityId, Reasons};
use leadpulse_schema::units::DAY_MS;

use super::Machine;

/// An explanation older than this is made anew.
// Half a day: the reasons at the top of a list are of today, and a list of hundreds costs seconds of
// computing in that time.
const STALE_MS: i64 = DAY_MS / 2;

impl Machine {
    /// Once a board, lists the entities at the top of each task without an explanation of late.
    /// History is nobody's list: before alerts fire there are none.
    pub(super) fn list_unexplained(&mut self) {
        let board = self.state.graph.board();
        let ticks = &self.state.ticks;
        let is_live = ticks
            .closed_ms
            .zip(ticks.live_from_ms)
            .is_some_and(|(at, from)| at >= from);
        let is_listed = board == self.state.listed_board || self.given.explain_budget == 0;
        // A closing tick has its own.
        if is_live && !is_listed && self.state.closing.is_none() {
            self.list_all_unexplained();
        }
    }

    /// Lists the entities at the top of each task without an explanation of late.
    pub(super) fn list_all_unexplained(&mut self) {
        self.state.listed_board = self.state.graph.board();
        self.state.unexplained.clear();
        for task in 0..self.given.tasks.len() {
            let top = self.top(task);
            for entity in top {
                self.state.unexplained.insert((task, entity), ());
            }
        }
    }

    /// The first entities of a task whose explanation is missing or old.
    fn top(&self, task: usize) -> Vec<EntityId> {
        let of_task = self.state.tracked.iter().filter(|((of, _), _)| *of == task);
        let mut ranked: Vec<(f64, EntityId, bool)> = of_task
            .filter_map(|((_, entity), tracked)| {
                let made = self.state.explained.get(&(task, *entity));
                let made_ms = made.map(|made| made.as_of.ms());
                let is_old = |made_ms: i64| self.state.as_of.ms() - made_ms > STALE_MS;
                Some((tracked.ranked_by()?, *entity, made_ms.is_none_or(is_old)))
            })
            .collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let first = ranked.into_iter().take(self.given.explain_top);
        first
            .filter(|(_, _, is_wanted)| *is_wanted)
            .map(|(_, entity, _)| entity)
            .collect()
    }

    /// Takes as many of the listed as the budget allows, at the closing tick as many as the work
    /// `left` does, and adds their cells to those that are scored.
    pub(super) fn take_unexplained(
        &mut self,
        closing: bool,
        left: u64,
        dirty: &mut Vec<(CellRef, Reasons)>,
    ) -> BTreeSet<(usize, EntityId)> {
        let budget = match closing {
            true => usize::try_from(left.max(1)).unwrap_or(usize::MAX),
            false => self.given.explain_budget,
        };
        let mut taken = BTreeSet::new();
        while taken.len() < budget
            && let Some(((task, entity), ())) = self.state.unexplained.pop_first()
        {
            let Some(place) = self.state.graph.directory().place(entity) else {
                continue;
            };
            if let Err(index) = dirty.binary_search_by_key(&place.cell, |(at, _)| *at) {
                dirty.insert(index, (place.cell, Reasons::REFRESH));
            }
            taken.insert((task, entity));
        }
        taken
    }
}
