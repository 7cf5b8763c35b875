//! Hubs: nodes that many cells share, with the sums of the cells that touch them, as of the last
//! board.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use leadpulse_schema::{Catalog, Row, RowBatch};

use crate::ids::EntityId;
use crate::pieces::{Kept, KeptMap};
use crate::state::cell::{HubContribution, StateRules};
use crate::state::decay::{Landmark, NO_LANDMARK};
use crate::state::layout::signed_log1p;

/// The drift of a hub whose row changed: as if its sums had changed by a factor of e.
// A row changes a share of what its readers see, and how much is not known before they are scored.
const DRIFT_OF_ROW: f64 = 1.0;

/// The published sums of one hub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HubSums {
    /// The number of cells that touch the hub.
    pub cells: u32,
    /// `[hub slots, half-lives]`, relative to [`Hubs::landmark`].
    #[serde(with = "crate::encoding::sparse")]
    pub sums: Vec<f64>,
    /// Total log-change since the start: the largest over all slots, board by board.
    pub drift: f64,
}

/// All hubs that cells touch, as of the last board.
#[derive(Clone, Debug)]
pub struct Hubs {
    pub(crate) sums: KeptMap<EntityId, HubSums>,
    pub(crate) landmark: Kept<Landmark>,
    /// Rows of hubs' own tables, as published; none of tables without fields to read.
    pub(crate) rows: KeptMap<EntityId, RowBatch>,
    /// Rows since the last board, empty after a deletion.
    pub(crate) described: KeptMap<EntityId, RowBatch>,
    width: usize,
    /// Empty but during a publication, so not stored.
    changed: FxHashMap<EntityId, Change>,
}

/// The change of one hub by a publication.
#[derive(Clone, Debug)]
struct Change {
    /// Cells and sums before the publication.
    cells: u32,
    sums: Vec<f64>,
    /// The number of cells that changed their contribution, and of those that joined or left.
    writers: u32,
    joined_or_left: u32,
    /// The sum of the absolute changes by all cells.
    gross: Vec<f64>,
}

impl Hubs {
    /// No hubs yet; `width` is hub slots × half-lives.
    pub fn new(width: usize) -> Self {
        Self {
            sums: KeptMap::default(),
            landmark: Kept::new(NO_LANDMARK),
            rows: KeptMap::default(),
            described: KeptMap::default(),
            width,
            changed: FxHashMap::default(),
        }
    }
    /// The hubs of a trial until it publishes a board: the sums and rows of these.
    pub(crate) fn above(
        of: &Self,
        sums: KeptMap<EntityId, HubSums>,
        [rows, described]: [KeptMap<EntityId, RowBatch>; 2],
    ) -> Self {
        Self {
            sums,
            rows,
            described,
            landmark: of.landmark.clone(),
            width: of.width,
            changed: FxHashMap::default(),
        }
    }
    /// A hub's published sums.
    pub fn get(&self, hub: EntityId) -> Option<&HubSums> {
        self.sums.get(&hub)
    }
    /// A hub's own row as of the last board; `None` without one, and for tables whose rows have no
    /// field to read.
    pub fn row(&self, hub: EntityId) -> Option<Row<'_>> {
        let batch = self.rows.get(&hub)?;
        (!batch.is_empty()).then(|| batch.row(0))
    }
    /// A hub's own row as rows describe it so far, which the next board publishes.
    pub(crate) fn described(&self, hub: EntityId) -> Option<Row<'_>> {
        match self.described.get(&hub) {
            Some(batch) => (!batch.is_empty()).then(|| batch.row(0)),
            None => self.row(hub),
        }
    }
    /// Takes a hub's own row, or none after a deletion, to publish with the next board.
    pub(crate) fn describe(&mut self, hub: EntityId, row: RowBatch) {
        self.described.insert(hub, row);
    }
    /// A copy of these for a board of a trial, with the rows that the trial has described.
    pub(crate) fn for_board_of(&self, trial: &Self) -> Self {
        let mut copy = self.clone();
        for (hub, row) in trial.described.iter() {
            copy.described.insert(*hub, row.clone());
        }
        copy
    }
    /// Bytes of rows on the heap, roughly.
    pub(crate) fn row_bytes(&self) -> usize {
        let batches = self.rows.values().chain(self.described.values());
        batches
            .map(|row| size_of::<(EntityId, RowBatch)>() + row.text_bytes())
            .sum()
    }
    /// All hubs with sums, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntityId, &HubSums)> {
        self.sums.iter().map(|(hub, sums)| (*hub, sums))
    }
    /// The landmark of all sums.
    pub fn landmark(&self) -> Landmark {
        *self.landmark
    }
    /// The number of hubs with sums.
    pub fn len(&self) -> usize {
        self.sums.len()
    }
    /// Whether no hub has sums.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Starts a publication at a board time: sums move to its landmark.
    // Decision: docs/decisions/0012-boards-on-a-grid.md
    pub(crate) fn begin(&mut self, shared: &StateRules, board_ms: i64) {
        let landmark = shared.bank.landmark(board_ms).max(*self.landmark);
        if *self.landmark != NO_LANDMARK && landmark > *self.landmark {
            let factors: Vec<f64> = (0..shared.bank.len())
                .map(|h| shared.bank.rebase(h, *self.landmark, landmark))
                .collect();
            for hub in self.sums.values_mut() {
                for (i, sum) in hub.sums.iter_mut().enumerate() {
                    *sum *= factors[i % factors.len()];
                }
            }
        }
        if *self.landmark != landmark {
            *self.landmark.change() = landmark;
        }
        self.changed.clear();
    }

    /// Replaces the old contribution of a cell by the new one.
    pub(crate) fn replace(
        &mut self,
        shared: &StateRules,
        old: Option<&HubContribution>,
        new: &HubContribution,
    ) {
        let scaled = |c: &HubContribution, sign: f64| -> Vec<f64> {
            let factors: Vec<f64> = (0..shared.bank.len())
                .map(|h| sign * shared.bank.rebase(h, c.landmark, *self.landmark))
                .collect();
            c.sums
                .iter()
                .enumerate()
                .map(|(i, x)| x * factors[i % factors.len()])
                .collect()
        };
        let plus = scaled(new, 1.0);
        let minus = old.map(|c| scaled(c, -1.0));
        let difference: Option<Vec<f64>> = minus
            .as_ref()
            .map(|m| plus.iter().zip(m).map(|(a, b)| a + b).collect());
        let empty: &[EntityId] = &[];
        let old_hubs = old.map_or(empty, |c| &c.hubs[..]);
        for hub in &new.hubs {
            match &difference {
                Some(difference) if old_hubs.binary_search(hub).is_ok() => {
                    self.add(*hub, 0, difference)
                }
                _ => self.add(*hub, 1, &plus),
            }
        }
        if let Some(minus) = &minus {
            for hub in old_hubs
                .iter()
                .filter(|h| new.hubs.binary_search(h).is_err())
            {
                self.add(*hub, -1, minus);
            }
        }
    }

    fn add(&mut self, hub: EntityId, cells: i32, amounts: &[f64]) {
        let width = self.width;
        let sums = self.sums.entry_or(hub, || HubSums {
            cells: 0,
            sums: vec![0.0; width],
            drift: 0.0,
        });
        let change = self.changed.entry(hub).or_insert_with(|| Change {
            cells: sums.cells,
            sums: sums.sums.clone(),
            writers: 0,
            joined_or_left: 0,
            gross: vec![0.0; width],
        });
        change.writers += 1;
        change.joined_or_left += cells.unsigned_abs();
        change
            .gross
            .iter_mut()
            .zip(amounts)
            .for_each(|(gross, amount)| *gross += amount.abs());
        sums.cells = sums
            .cells
            .checked_add_signed(cells)
            .expect("a cell leaves only hubs it had joined");
        for (sum, amount) in sums.sums.iter_mut().zip(amounts) {
            *sum += amount;
        }
        if sums.cells == 0 {
            sums.sums.fill(0.0);
        }
    }

    /// Ends a publication: adds each changed hub's log-change to its drift. Returns whether any
    /// drifted.
    ///
    /// A cell that did not change sees the net change. A cell that did sees the change by the
    /// *others*, which its own part may hide in the sum (it joined as another left). Where several
    /// cells changed, the drift is therefore at least their gross change.
    pub(crate) fn finish(&mut self, shared: &StateRules, board_ms: i64) -> bool {
        let halves = shared.bank.len();
        let reads: Vec<f64> = (0..halves)
            .map(|h| shared.bank.read(h, *self.landmark, board_ms))
            .collect();
        let count = |cells: u32| f64::from(cells.max(1));
        let view =
            |cells: u32, sum: f64, i: usize| signed_log1p(sum * reads[i % halves] / count(cells));
        let mut moved = false;
        for (hub, change) in self.changed.drain() {
            let Change {
                cells,
                sums: before,
                ..
            } = change;
            let now = self.sums.get_mut(&hub).expect("changed hubs have sums");
            let net = before
                .iter()
                .zip(&now.sums)
                .enumerate()
                .map(|(i, (b, n))| (view(cells, *b, i) - view(now.cells, *n, i)).abs());
            let mut drift = net.fold((count(now.cells) / count(cells)).ln().abs(), f64::max);
            if change.writers > 1 {
                let gross = before
                    .iter()
                    .zip(&change.gross)
                    .enumerate()
                    .map(|(i, (b, g))| view(cells, b.abs() + g, i) - view(cells, b.abs(), i));
                drift = gross.fold(
                    drift.max((f64::from(change.joined_or_left) / count(cells)).ln_1p()),
                    f64::max,
                );
            }
            moved |= drift > 0.0;
            now.drift += drift;
        }
        self.publish_rows(shared.layout.catalog()) || moved
    }

    /// Publishes the rows that described hubs since the last board. Returns whether any hub with
    /// cells drifted.
    // Decision: docs/decisions/0084-rows-of-hubs-come-with-boards.md
    fn publish_rows(&mut self, catalog: &Catalog) -> bool {
        let mut described: Vec<EntityId> = self.described.keys().copied().collect();
        described.sort_unstable();
        let mut moved = false;
        for hub in described {
            let new = self.described.remove(&hub).unwrap_or_default();
            let next = (!new.is_empty()).then(|| new.row(0));
            if has_same_values(catalog, self.row(hub), next) {
                continue;
            }
            match new.is_empty() {
                true => self.rows.remove(&hub),
                false => self.rows.insert(hub, new),
            };
            if let Some(sums) = self.sums.get_mut(&hub) {
                sums.drift += DRIFT_OF_ROW;
                moved = true;
            }
        }
        moved
    }

    /// The mean drift of some hubs.
    pub fn mean_drift(&self, hubs: &[EntityId]) -> f64 {
        if hubs.is_empty() {
            return 0.0;
        }
        hubs.iter()
            .filter_map(|hub| self.sums.get(hub))
            .map(|h| h.drift)
            .sum::<f64>()
            / hubs.len() as f64
    }
}

/// Whether two rows of a hub have the same values in all fields that cells read.
fn has_same_values(catalog: &Catalog, one: Option<Row<'_>>, other: Option<Row<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let mut fields = catalog.table_at(one.table()).hub_features();
            fields.all(|field| one.get(field.id) == other.get(field.id))
        }
        (None, None) => true,
        _ => false,
    }
}
