//! The records of an epoch's erasures: tombstones, records of others without the person, proofs.

use leadpulse_records::{ErasureProof, HeldUntil, output_key};
use leadpulse_schema::ErasureAction;

use super::super::decide::Decided;
use super::super::{Machine, Readings};
use super::{DoneRequest, Erasing};
use crate::ports::{Holding, Output};

impl Machine {
    /// The places that hold copies of records, as last known: proofs name them. The epoch record
    /// holds them where they count.
    pub fn note_holdings(&mut self, holdings: Vec<Holding>) {
        self.state.holdings = holdings;
    }

    /// Writes the records of an epoch's erasures, after all others of the epoch: of one key the
    /// newest counts.
    pub(in crate::machine) fn write_erasures(
        &self,
        erasing: &Erasing,
        clock: Readings,
        decided: &mut Decided,
    ) {
        let mut lists = 0;
        for key in &erasing.lists {
            if let Some(list) = self.state.lists.get(key) {
                decided.outputs.push(self.list_output(list));
                decided.views.work_lists.push(list.clone());
                lists += 1;
            }
        }
        for request in &erasing.done {
            let tombstones = self.write_tombstones(request, decided);
            let proof = self.proof(request, clock, (tombstones, lists, erasing.named_in.len()));
            let key = request.subject.to_string().into_bytes();
            let value = self.given.encoders.erasure_proof(&proof);
            let record = self.output(Output::ErasureProofs, key, Some(value));
            decided.outputs.push(record);
        }
    }

    /// Writes tombstones for all records of a person in compacted topics. Returns their number.
    fn write_tombstones(&self, request: &DoneRequest, decided: &mut Decided) -> usize {
        let mut written = 0;
        for (table, id) in &request.names.entities {
            for task in &self.given.tasks {
                let is_other = *self.given.catalog.table_at(task.entity).name != **table;
                // A person whose erasure was lifted at once may have a record again.
                if is_other || !self.is_erased(Some(table), id) {
                    continue;
                }
                let key = output_key(&task.name, table, id);
                let outputs = [Output::PolicyState, Output::CurrentScores];
                for output in outputs {
                    if output == Output::PolicyState || self.given.current_scores {
                        let record = self.output(output, key.clone(), None);
                        decided.outputs.push(record);
                        written += 1;
                    }
                }
            }
        }
        written
    }

    fn proof(
        &self,
        request: &DoneRequest,
        clock: Readings,
        (tombstones, lists, renewed): (usize, usize, usize),
    ) -> ErasureProof {
        let state = &self.state;
        let rows = &request.rows;
        let as_of_ms = state.as_of.ms().max(0);
        let clock_ms = clock.live_ms.or(clock.bound_ms);
        // Records were appended by now, by the brokers' clock; as_of may be of the past.
        let now_ms = clock_ms.map_or(as_of_ms, |clock_ms| clock_ms.max(as_of_ms));
        let is_telling = request.names.are_in(&request.id);
        let request_id = match is_telling {
            true => self.given.erasure_key.of_request(&request.id).to_string(),
            false => request.id.clone(),
        };
        let held = |holding: &Holding| HeldUntil {
            place: holding.place.clone(),
            kind: holding.kind.name().to_owned(),
            until: holding.keeps_ms.map(|ms| now_ms.saturating_add(ms)),
        };
        let is_erased = request.action == ErasureAction::Erase;
        let holdings = state.holdings.iter().filter(|_| is_erased);
        ErasureProof {
            request_id,
            subject: request.subject.to_string(),
            action: match request.action {
                ErasureAction::Erase => "erase".to_owned(),
                ErasureAction::Lift => "lift".to_owned(),
            },
            requested_at: request.requested_at_ms,
            as_of: as_of_ms,
            clock_at: clock_ms,
            epoch: state.number as i64,
            hashes: request.hashes as i64,
            entities: rows.entities.len() as i64,
            versions: rows.versions as i64,
            events: rows.events as i64,
            domains: rows.domains as i64,
            rewritten_rows: rows.rewritten as i64,
            tombstones: tombstones as i64,
            renewed_records: renewed as i64,
            work_lists: lists as i64,
            held: holdings.map(held).collect(),
        }
    }
}
