//! Work lists: at some ticks, the next entities of each person and task.
//!
//! A list is a function of the memory of ticks, of the graph at the tick, and of the list that was
//! written before. Emitted scores never reach it, so it is the same for any cut of epochs. The list
//! before is read back from the topic at a start.
//!
//! Decision: docs/decisions/0059-work-lists-from-ticks.md

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use leadpulse_features::{assignee, probability};
use leadpulse_graph::{CellRef, DAY_MS, EntityId};
use leadpulse_policy::{AlertFacts, Decision, ListedScore};
use leadpulse_records::{Lineage, ListReasons, Listing, Standing, WorkList, WorkListEntry};
use leadpulse_schema::Absence;

use super::Machine;
use super::decide::Decided;
use super::half::Pass;
use super::restore::Unmatched;
use super::score::Subject;
use super::state::Tracked;
use crate::epoch::EpochTally;
use crate::ports::{Output, OutputRecord};

/// A score that moved by less than this since it was remembered moves nobody on a list, logits.
// The memory is recorded for each move: an exact one would be a record for each entity of a cell at
// each tick that touches it.
const STEP_LOGITS: f64 = 0.05;
/// Reasons on a list are made anew once they are older than this.
const STALE_MS: i64 = 7 * DAY_MS;

/// Names of a task and of a person; the person is empty for entities of nobody.
pub(super) type ListKey = (Arc<str>, Arc<str>);

/// An entity that has a score and may stand on a list.
struct Candidate {
    entity: EntityId,
    cell: CellRef,
    logit: f64,
}

/// An entity that stands on a list.
struct Chosen {
    candidate: Candidate,
    key: Arc<str>,
    facts: AlertFacts,
}

/// Logits of all entities of a task that have a score, ascending.
struct ListRanks(Vec<f64>);

/// The entities of a task at a tick.
struct Field {
    ranks: ListRanks,
    /// Person → candidates.
    by_owner: BTreeMap<Arc<str>, Vec<Candidate>>,
}

impl Tracked {
    /// Notes the score of a tick for lists. Returns true if the memory moved.
    pub(super) fn note_listed(&mut self, logit: Result<f64, Absence>) -> bool {
        let moved = match (self.listed, logit) {
            (Some(before), Ok(now)) => (now - before).abs() >= STEP_LOGITS,
            (None, Err(_)) => false,
            (None, Ok(_)) | (Some(_), Err(_)) => true,
        };
        if moved {
            self.listed = logit.ok();
        }
        moved
    }
}

impl ListRanks {
    /// The place of a logit.
    fn standing(&self, logit: f64) -> Standing {
        let below = self.0.partition_point(|one| *one < logit);
        let up_to = self.0.partition_point(|one| *one <= logit);
        let ranked = self.0.len();
        Standing {
            rank: (ranked - up_to + 1) as u64,
            percentile: 100.0 * below as f64 / ranked.max(1) as f64,
            ranked: ranked as u64,
        }
    }
}

impl Machine {
    /// The first moment after the last tick at which lists are due, milliseconds: that from which
    /// on alerts fire, then the multiples. `None` before it is decided, and without lists.
    pub(super) fn next_lists_ms(&self) -> Option<i64> {
        let lists = &self.given.work_lists;
        let live_from_ms = self.state.ticks.live_from_ms.filter(|_| lists.are_made())?;
        let folded_ms = self.state.ticks.folded_ms;
        let live_ms = folded_ms.filter(|folded_ms| *folded_ms >= live_from_ms);
        Some(live_ms.map_or(live_from_ms, |folded_ms| lists.next_ms(folded_ms)))
    }

    /// Makes the lists of a tick, which is the graph's moment, behind the one that was made last, as
    /// far as explanations are left. Writes those that ask for something else than before. A person
    /// without entities gets an empty list. Returns true once all are made.
    pub(super) fn write_lists(&mut self, last: &mut Option<ListKey>, pass: &mut Pass<'_>) -> bool {
        let lineage = self.lineage();
        let mut wanted: BTreeMap<ListKey, (usize, Vec<Candidate>)> = BTreeMap::new();
        let mut ranks = Vec::new();
        for (task, field) in self.fields().into_iter().enumerate() {
            let name = self.given.tasks[task].name.clone();
            let before = self.owners_before(&name).into_iter();
            let before = before.map(|owner| (owner, Vec::new()));
            for (owner, candidates) in before.chain(field.by_owner) {
                wanted.insert((name.clone(), owner), (task, candidates));
            }
            ranks.push(field.ranks);
        }
        for (key, (task, candidates)) in wanted {
            if last.as_ref().is_some_and(|last| key <= *last) {
                continue;
            }
            if pass.left.explanations == 0 {
                return false;
            }
            let started = (pass.elapsed)();
            let of_task = (&ranks[task], &lineage);
            let (list, explained) = self.list_of(task, &key.1, candidates, of_task, pass.tally);
            pass.note_explained(explained, started);
            self.write_list(key.clone(), list, &mut pass.decided, pass.tally);
            *last = Some(key);
        }
        true
    }

    /// Takes back a list that an earlier process wrote.
    ///
    /// # Errors
    /// [`Unmatched`] if no task has its name.
    pub fn restore_list(&mut self, list: WorkList) -> Result<(), Unmatched> {
        let mut tasks = self.given.tasks.iter();
        if !tasks.any(|task| task.name == list.task) {
            return Err(Unmatched);
        }
        let list = Arc::new(list);
        let owner: Arc<str> = list.owner().into();
        let key = (list.task.clone(), owner);
        self.state.lists.insert(key, list);
        Ok(())
    }

    /// The last written lists of all people.
    pub fn work_lists(&self) -> Vec<Arc<WorkList>> {
        self.state.lists.values().cloned().collect()
    }

    /// The first list of a task that is not configured any more.
    fn retired_list(&self) -> Option<ListKey> {
        let lists = &self.state.lists;
        let mut next = lists.keys().next();
        while let Some((task, _)) = next {
            if !self.given.task_names().any(|name| name == task) {
                return next.cloned();
            }
            let behind: ListKey = (format!("{task}\0").into(), "".into());
            next = lists.range(behind..).map(|(key, _)| key).next();
        }
        None
    }

    pub(super) fn has_retired_list(&self) -> bool {
        self.retired_list().is_some()
    }

    /// Takes back the lists of tasks that a swap removed, by records without a value.
    pub(super) fn retire_lists(&mut self, decided: &mut Decided) {
        while let Some(key) = self.retired_list() {
            if let Some(list) = self.state.lists.remove(&key) {
                let record = self.output(Output::WorkLists, list.key(), None);
                decided.outputs.push(record);
            }
        }
    }

    /// The people who have a list of a task.
    fn owners_before(&self, task: &Arc<str>) -> Vec<Arc<str>> {
        let of_task = self.state.lists.keys().filter(|(of, _)| of == task);
        of_task.map(|(_, owner)| owner.clone()).collect()
    }

    fn empty_list(&self, task: usize, owner: &Arc<str>, lineage: &Lineage) -> WorkList {
        let scored = &self.given.scorer.tasks()[self.given.scorer_tasks[task]];
        WorkList {
            task: self.given.tasks[task].name.clone(),
            owner_id: Some(owner.clone()).filter(|owner| !owner.is_empty()),
            as_of: lineage.as_of.ms(),
            horizon_days: i32::try_from(scored.horizon_ms / DAY_MS).ok(),
            bundle_id: Some(lineage.bundle_id.clone()),
            entries: Vec::new(),
        }
    }

    /// Writes a list, unless it asks for the same as the one before.
    fn write_list(
        &mut self,
        key: ListKey,
        list: WorkList,
        decided: &mut Decided,
        tally: &mut EpochTally,
    ) {
        let is_same = match self.state.lists.get(&key) {
            Some(before) => before.asks_as(&list),
            None => list.entries.is_empty(),
        };
        if is_same {
            return;
        }
        let list = Arc::new(list);
        decided.outputs.push(self.list_output(&list));
        decided.views.work_lists.push(list.clone());
        *tally.work_lists.entry(key.0.to_string()).or_default() += 1;
        self.state.lists.insert(key, list);
    }

    /// A list's record.
    pub(super) fn list_output(&self, list: &WorkList) -> OutputRecord {
        let value = self.given.encoders.work_list(list);
        OutputRecord {
            headers: self
                .given
                .headers
                .work_list(list, &value, self.state.number),
            ..self.output(Output::WorkLists, list.key(), Some(value))
        }
    }

    /// The entities of every task at this moment, by person.
    fn fields(&self) -> Vec<Field> {
        let mut remembered: Vec<Vec<(EntityId, f64)>> = vec![Vec::new(); self.given.tasks.len()];
        for ((task, entity), tracked) in self.state.tracked.iter() {
            remembered[*task].extend(tracked.listed.map(|logit| (*entity, logit)));
        }
        let fields = remembered.into_iter().enumerate();
        fields
            .map(|(task, entities)| self.field_of(task, &entities))
            .collect()
    }

    fn field_of(&self, task: usize, entities: &[(EntityId, f64)]) -> Field {
        let found: Vec<(Arc<str>, Candidate)> = entities
            .par_iter()
            .filter_map(|(entity, logit)| self.candidate(task, *entity, *logit))
            .collect();
        let mut logits: Vec<f64> = found.iter().map(|(_, one)| one.logit).collect();
        logits.sort_unstable_by(f64::total_cmp);
        let mut by_owner: BTreeMap<Arc<str>, Vec<Candidate>> = BTreeMap::new();
        for (owner, candidate) in found {
            by_owner.entry(owner).or_default().push(candidate);
        }
        Field {
            ranks: ListRanks(logits),
            by_owner,
        }
    }

    /// An entity with its person, unless it left the task's population.
    fn candidate(
        &self,
        task: usize,
        entity: EntityId,
        logit: f64,
    ) -> Option<(Arc<str>, Candidate)> {
        let graph = &self.state.graph;
        let at = graph.directory().place(entity)?.cell;
        let cell = graph.cell(at);
        let node = cell.nodes.iter().find(|node| node.entity == entity)?;
        let population = &self.given.tasks[task].population;
        if graph
            .absence(cell, node, self.state.as_of, population)
            .is_some()
        {
            return None;
        }
        let owner = assignee(graph, cell, entity).unwrap_or_default();
        let candidate = Candidate {
            entity,
            cell: at,
            logit,
        };
        Some((owner.into(), candidate))
    }

    /// The list of one person and task, and the number of entries that were explained for it.
    fn list_of(
        &self,
        task: usize,
        owner: &Arc<str>,
        candidates: Vec<Candidate>,
        (ranks, lineage): (&ListRanks, &Lineage),
        tally: &mut EpochTally,
    ) -> (WorkList, u64) {
        let key = (self.given.tasks[task].name.clone(), owner.clone());
        let before = self.state.lists.get(&key).map(|list| &**list);
        let chosen = self.choose(task, candidates);
        let made: Vec<(WorkListEntry, bool)> = chosen
            .par_iter()
            .filter_map(|one| self.entry(task, one, before, (ranks, lineage)))
            .collect();
        let explained = made.iter().filter(|(_, is_new)| *is_new).count();
        if explained > 0 {
            let key = (self.given.tasks[task].name.to_string(), "listed");
            *tally.explanations.entry(key).or_default() += explained as u64;
        }
        let list = WorkList {
            entries: made.into_iter().map(|(entry, _)| entry).collect(),
            ..self.empty_list(task, owner, lineage)
        };
        (list, explained as u64)
    }

    /// The first entities that may stand on a list, one an account, in order.
    // Facts cost more than scores, so they are read from the top down until the list is full. Equal
    // scores are read together: their order depends on facts.
    fn choose(&self, task: usize, mut candidates: Vec<Candidate>) -> Vec<Chosen> {
        let size = self.given.work_lists.size();
        candidates.sort_unstable_by(|a, b| a.logit.total_cmp(&b.logit));
        let (mut chosen, mut accounts) = (Vec::new(), BTreeSet::new());
        while chosen.len() < size
            && let Some(best) = candidates.last().map(|one| one.logit)
        {
            let first = candidates.partition_point(|one| one.logit < best);
            let mut equal: Vec<Chosen> = candidates
                .split_off(first)
                .into_iter()
                .filter_map(|one| self.listable(task, one))
                .collect();
            equal.sort_by(|a, b| {
                let value = |one: &Chosen| one.facts.value_at_stake();
                let by_value = value(b).total_cmp(&value(a));
                by_value.then_with(|| a.key.cmp(&b.key))
            });
            for one in equal {
                if chosen.len() < size && accounts.insert(one.facts.account.clone()) {
                    chosen.push(one);
                }
            }
        }
        chosen
    }

    /// A candidate with its facts, unless something keeps it off lists.
    fn listable(&self, task: usize, candidate: Candidate) -> Option<Chosen> {
        let graph = &self.state.graph;
        let cell = graph.cell(candidate.cell);
        let plan = &self.given.facts[task];
        let facts = plan.facts(graph, cell, candidate.entity, self.state.as_of);
        let now_ms = self.state.as_of.ms();
        let rulings = &self.state.said.rulings;
        let ruling = rulings.about(graph, cell, candidate.entity, now_ms);
        let policy = &self.given.tasks[task].policy;
        policy
            .may_be_listed(&facts, ruling, now_ms)
            .then(|| Chosen {
                key: graph.directory().key(candidate.entity).clone(),
                candidate,
                facts,
            })
    }

    /// The entry of an entity, and whether it was explained for it. `None` for an entity that the
    /// plan has no row for.
    fn entry(
        &self,
        task: usize,
        one: &Chosen,
        before: Option<&WorkList>,
        (ranks, lineage): (&ListRanks, &Lineage),
    ) -> Option<(WorkListEntry, bool)> {
        let Chosen {
            candidate,
            key,
            facts,
        } = one;
        let subject = self.subject_at(task, candidate)?;
        let now_ms = lineage.as_of.ms();
        let kept = before
            .filter(|list| list.bundle_id.as_ref() == Some(&lineage.bundle_id))
            .and_then(|list| list.reasons_of(key, candidate.logit))
            .filter(|reasons| now_ms - reasons.as_of_ms <= STALE_MS);
        let is_new = kept.is_none();
        let reasons = kept.unwrap_or_else(|| self.list_reasons(subject));
        let score = self.listed_score(task, candidate);
        let decision = standing_as(&score);
        let emission = self.emission(subject, Ok(candidate.logit), &decision, lineage);
        let since_ms = before.and_then(|list| list.listed_since(&facts.account));
        let entry = emission.list_entry(&Listing {
            change: score.change,
            standing: ranks.standing(candidate.logit),
            facts,
            reasons: &reasons,
            since_ms: since_ms.unwrap_or(now_ms),
        })?;
        Some((entry, is_new))
    }

    fn listed_score(&self, task: usize, candidate: &Candidate) -> ListedScore {
        let policy = &self.given.tasks[task].policy;
        let tracked = &self.state.tracked[&(task, candidate.entity)];
        let now_ms = self.state.as_of.ms();
        policy.listed(&tracked.alerts, now_ms, probability(candidate.logit))
    }

    fn list_reasons(&self, subject: Subject) -> ListReasons {
        let (_, explained) = self.explain_now(subject);
        ListReasons {
            top_group: explained.top_group().map(str::to_owned),
            top_signal: explained.top_signal(),
            as_of_ms: explained.as_of.ms(),
        }
    }

    /// The entity with its place in the encoding of its cell at this moment.
    fn subject_at(&self, task: usize, candidate: &Candidate) -> Option<Subject> {
        let plan = self.given.scorer.plan();
        let (graph, as_of) = (&self.state.graph, self.state.as_of);
        let table = self.given.tasks[task].entity;
        let batch = plan.encode(graph, &[candidate.cell], as_of, &[table]);
        let (_, slot) = plan.row_of(&batch, table, 0, candidate.entity)?;
        Some(Subject {
            cell: candidate.cell,
            entity: candidate.entity,
            task,
            slot,
        })
    }
}

/// The decision that stands for an entity on a list: its band and direction. Nothing fires.
fn standing_as(score: &ListedScore) -> Decision {
    Decision {
        emit: None,
        band: score.band.clone(),
        previous_band: score.band.clone(),
        previous_probability: score.change.as_ref().map(|before| before.probability),
        previous_as_of_ms: score.change.as_ref().map(|before| before.since_ms),
        trend: score.trend,
        velocity_per_day: None,
        acceleration_per_day2: None,
        state_changed: false,
    }
}
