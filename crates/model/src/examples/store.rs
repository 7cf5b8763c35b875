//! Encoded cells, stored once: owns the raw features that the examples of all tasks refer to.
//!
//! Most columns of most rows are 0, so a row keeps the others only. A cell is a run of bytes:
//!
//! ```text
//! cell  = of each member table rows and rows pooled over (LEB128 each), root row, rows of the first member table, of the second, …
//! row   = entry* END
//! entry = n < SKIP, f32 little endian     n columns of 0, then one of this value
//!       | SKIP                            SKIP columns of 0
//! ```
//!
//! Cells lie in blocks, so that growing never copies what is there. Values come back bit for bit,
//! whatever the number of columns.

use leadpulse_features::{FeatureBatch, Layout, MemberBlock};

use crate::examples::normalise::{Normaliser, Scales};
use crate::network::TowerTarget;

/// Says that the next columns, this many, are 0 and another entry follows.
const SKIP: u8 = 254;
/// The byte that ends a row.
const END: u8 = 255;
/// Bytes of a block; a new one is started when the next cell does not fit.
const BLOCK_BYTES: usize = 1 << 20;

/// A cell in a [`CellStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellRow(u32);

/// Encoded cells of one layout; grows only.
#[derive(Clone, Debug)]
pub struct CellStore {
    layout: Layout,
    blocks: Vec<Vec<u8>>,
    /// Per cell its block, and where it starts there.
    places: Vec<(u32, u32)>,
    /// Per member table the number of members in "rest" rows, summed over cells.
    folded: Vec<usize>,
}

impl CellRow {
    /// The cell that was stored after `before` others.
    pub(crate) fn nth(before: usize) -> Self {
        Self(u32::try_from(before).expect("cells are fewer than 2³²"))
    }
}

impl CellStore {
    /// An empty store of cells with these columns.
    pub fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            blocks: Vec::new(),
            places: Vec::new(),
            folded: vec![0; layout.members.len()],
        }
    }

    /// Adds cell `cell` of `batch`, without its padding and its entities.
    ///
    /// # Panics
    /// When the batch was encoded for another layout, `cell` is outside of it, padding comes before
    /// a row, or there are 2³² cells.
    pub fn push(&mut self, batch: &FeatureBatch, cell: usize) -> CellRow {
        let width = self.layout.root.len();
        assert_eq!(
            batch.members.len(),
            self.layout.members.len(),
            "a batch of this layout has one block per member table"
        );
        let mut bytes = Vec::new();
        let tables = || batch.members.iter().zip(&self.layout.members);
        for (block, layout) in tables() {
            let mask = &block.mask[cell * block.slots..(cell + 1) * block.slots];
            let rows = mask.iter().take_while(|m| **m != 0.0).count();
            assert!(
                mask[rows..].iter().all(|m| *m == 0.0),
                "rows come before padding"
            );
            assert!(
                rows == 0 || block.width == layout.columns.len(),
                "a batch of this layout has its widths"
            );
            write_count(rows, &mut bytes);
            write_count(block.attended[cell] as usize, &mut bytes);
        }
        write_row(&batch.root[cell * width..(cell + 1) * width], &mut bytes);
        for (block, layout) in tables() {
            let mask = &block.mask[cell * block.slots..(cell + 1) * block.slots];
            for slot in mask
                .iter()
                .enumerate()
                .filter(|(_, m)| **m != 0.0)
                .map(|(slot, _)| cell * block.slots + slot)
            {
                write_row(
                    &block.values[slot * layout.columns.len()..(slot + 1) * layout.columns.len()],
                    &mut bytes,
                );
            }
        }
        for (sum, block) in self.folded.iter_mut().zip(&batch.members) {
            *sum += block.folded[cell] as usize;
        }
        self.append(&bytes)
    }

    /// The number of members of a member table in "rest" rows, summed over cells.
    pub(crate) fn folded(&self, table: usize) -> usize {
        self.folded[table]
    }

    fn append(&mut self, cell: &[u8]) -> CellRow {
        if self
            .blocks
            .last()
            .is_none_or(|block| block.capacity() - block.len() < cell.len())
        {
            self.blocks
                .push(Vec::with_capacity(cell.len().max(BLOCK_BYTES)));
        }
        let number = |n: usize| {
            u32::try_from(n).expect("blocks, cells and bytes of a block are fewer than 2³²")
        };
        let row = CellRow(number(self.places.len()));
        let last = self.blocks.len() - 1;
        let block = &mut self.blocks[last];
        self.places.push((number(last), number(block.len())));
        block.extend_from_slice(cell);
        row
    }

    /// The number of cells stored.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it has such a cell.
    pub(crate) fn holds(&self, row: CellRow) -> bool {
        (row.0 as usize) < self.places.len()
    }

    /// Memory of the cells, bytes.
    pub fn heap_bytes(&self) -> usize {
        let places = self.places.capacity() * size_of::<(u32, u32)>();
        self.blocks
            .iter()
            .map(|block| block.capacity() + size_of::<Vec<u8>>())
            .sum::<usize>()
            + places
    }

    /// The columns of every cell.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of rows of member table `table` in a cell.
    pub(crate) fn members_of(&self, row: CellRow, table: usize) -> usize {
        let mut reader = self.reader(row);
        let rows = (0..=table).map(|_| reader.rows());
        rows.last().map_or(0, |rows| rows.all)
    }

    /// Hands every value of a cell that is not 0 to `each`, with its kind of row (0 the root, `t +
    /// 1` member table `t`) and its column; `rows` gets the number of rows of each kind.
    pub(crate) fn visit(
        &self,
        row: CellRow,
        mut rows: impl FnMut(usize, usize),
        mut each: impl FnMut(usize, usize, f32),
    ) {
        let mut reader = self.reader(row);
        let counts: Vec<usize> = std::iter::once(1)
            .chain(self.layout.members.iter().map(|_| reader.rows().all))
            .collect();
        for (kind, count) in counts.into_iter().enumerate() {
            rows(kind, count);
            (0..count).for_each(|_| reader.row(|column, x| each(kind, column, x)));
        }
    }

    /// Some cells as a batch, padded to the largest number of members among them; normalised, or as
    /// they were encoded. For a task with this target only the rows that it reads are there.
    pub(crate) fn batch(
        &self,
        cells: &[CellRow],
        normaliser: Option<&Normaliser>,
        target: Option<TowerTarget>,
    ) -> FeatureBatch {
        let mut readers: Vec<CellReader<'_>> = cells.iter().map(|row| self.reader(*row)).collect();
        let tables = self
            .layout
            .members
            .iter()
            .enumerate()
            .map(|(table, member)| {
                let rows: Vec<StoredRows> = readers.iter_mut().map(CellReader::rows).collect();
                (
                    Dense::new(member.columns.len(), normaliser.map(|n| &n.members[table])),
                    rows,
                )
            });
        let tables: Vec<(Dense<'_>, Vec<StoredRows>)> = tables.collect();
        let width = self.layout.root.len();
        let dense = Dense::new(width, normaliser.map(|n| &n.root));
        let mut root = Vec::with_capacity(cells.len() * width);
        for reader in &mut readers {
            let start = root.len();
            root.extend_from_slice(&dense.zeros);
            dense.write(reader, &mut root[start..]);
        }
        let members = tables.into_iter().enumerate().map(|(t, (dense, rows))| {
            let is_read = target.is_none_or(|target| target == TowerTarget::Member(t));
            let shown = |rows: &StoredRows| if is_read { rows.all } else { rows.attended };
            let slots = rows.iter().map(shown).max().unwrap_or(0);
            let width = dense.zeros.len();
            let attended = rows.iter().map(|rows| rows.attended as u32).collect();
            let mut values = vec![0.0; cells.len() * slots * width];
            let mut mask = vec![0.0; cells.len() * slots];
            for (cell, (reader, rows)) in readers.iter_mut().zip(rows).enumerate() {
                for slot in cell * slots..cell * slots + shown(&rows) {
                    let row = &mut values[slot * width..(slot + 1) * width];
                    row.copy_from_slice(&dense.zeros);
                    dense.write(reader, row);
                    mask[slot] = 1.0;
                }
                (shown(&rows)..rows.all).for_each(|_| reader.row(|_, _| {}));
            }
            MemberBlock {
                slots,
                width,
                values,
                mask,
                entities: vec![None; cells.len() * slots],
                attended,
                folded: vec![0; cells.len()],
            }
        });
        FeatureBatch {
            cells: cells.len(),
            members: members.collect(),
            root,
        }
    }

    /// The normalised root rows of some cells, one after the other, and for a task on a member
    /// table the row in the slot given beside each cell.
    pub(crate) fn asked_rows(
        &self,
        cells: impl Iterator<Item = (CellRow, usize)>,
        normaliser: &Normaliser,
        target: TowerTarget,
    ) -> (Vec<f32>, Vec<f32>) {
        let dense = Dense::new(self.layout.root.len(), Some(&normaliser.root));
        let asked = match target {
            TowerTarget::Root => None,
            TowerTarget::Member(table) => {
                let width = self.layout.members[table].columns.len();
                Some((table, Dense::new(width, Some(&normaliser.members[table]))))
            }
        };
        let write = |dense: &Dense<'_>, reader: &mut CellReader<'_>, to: &mut Vec<f32>| {
            let start = to.len();
            to.extend_from_slice(&dense.zeros);
            dense.write(reader, &mut to[start..]);
        };
        let (mut root, mut own) = (Vec::new(), Vec::new());
        for (cell, slot) in cells {
            let mut reader = self.reader(cell);
            let tables = self.layout.members.iter();
            let counts: Vec<usize> = tables.map(|_| reader.rows().all).collect();
            write(&dense, &mut reader, &mut root);
            if let Some((table, dense)) = &asked {
                let before = counts[..*table].iter().sum::<usize>() + slot;
                (0..before).for_each(|_| reader.row(|_, _| {}));
                write(dense, &mut reader, &mut own);
            }
        }
        (root, own)
    }

    fn reader(&self, row: CellRow) -> CellReader<'_> {
        let (block, start) = self.places[row.0 as usize];
        CellReader {
            bytes: &self.blocks[block as usize][start as usize..],
        }
    }
}

/// Rows of one kind, made dense.
struct Dense<'a> {
    /// The image of a row without values.
    zeros: Vec<f32>,
    scales: Option<&'a Scales>,
}

impl<'a> Dense<'a> {
    fn new(width: usize, scales: Option<&'a Scales>) -> Self {
        let zeros = scales.map_or_else(
            || vec![0.0; width],
            |s| (0..width).map(|column| s.normalised(column, 0.0)).collect(),
        );
        Self { zeros, scales }
    }

    /// Writes the next row of a reader over a copy of `zeros`.
    fn write(&self, reader: &mut CellReader<'_>, to: &mut [f32]) {
        match self.scales {
            Some(scales) => reader.row(|column, x| to[column] = scales.normalised(column, x)),
            None => reader.row(|column, x| to[column] = x),
        }
    }
}

fn write_count(mut count: usize, bytes: &mut Vec<u8>) {
    while count >= 0x80 {
        bytes.push(count as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
}

fn write_row(values: &[f32], bytes: &mut Vec<u8>) {
    let mut next = 0;
    // By bits, so that −0 stays what it is.
    for (column, x) in values.iter().enumerate().filter(|(_, x)| x.to_bits() != 0) {
        let gap = column - next;
        bytes.extend(std::iter::repeat_n(SKIP, gap / SKIP as usize));
        bytes.push((gap % SKIP as usize) as u8);
        bytes.extend(x.to_le_bytes());
        next = column + 1;
    }
    bytes.push(END);
}

/// The rows of one member table in a stored cell.
#[derive(Clone, Copy)]
struct StoredRows {
    all: usize,
    /// Those that the cell is pooled over: the first ones.
    attended: usize,
}

/// Reads a cell from its start.
struct CellReader<'a> {
    bytes: &'a [u8],
}

impl CellReader<'_> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self
            .bytes
            .split_first()
            .expect("a cell's bytes end with the last of its rows");
        self.bytes = rest;
        *byte
    }

    fn rows(&mut self) -> StoredRows {
        StoredRows {
            all: self.count(),
            attended: self.count(),
        }
    }

    fn count(&mut self) -> usize {
        let (mut count, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            count |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return count;
            }
            shift += 7;
        }
    }

    /// Hands the values of the next row that are not 0 to `each`.
    fn row(&mut self, mut each: impl FnMut(usize, f32)) {
        let mut column = 0;
        loop {
            match self.byte() {
                END => return,
                SKIP => column += usize::from(SKIP),
                gap => {
                    let (value, rest) = self
                        .bytes
                        .split_first_chunk()
                        .expect("a value follows its gap");
                    self.bytes = rest;
                    column += usize::from(gap);
                    each(column, f32::from_le_bytes(*value));
                    column += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::{OwnedCell, batch_of_owned, layout, random_cell};

    fn bits(batch: &FeatureBatch) -> Vec<Vec<u32>> {
        let blocks = batch.members.iter().flat_map(|b| [&b.values, &b.mask]);
        std::iter::once(&batch.root)
            .chain(blocks)
            .map(|values| values.iter().map(|x| x.to_bits()).collect())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cells_come_back_as_they_were(
            seed: u64,
            root in 0usize..900,
            members in prop::collection::vec(1usize..300, 0..3),
            zeros_ratio in 0.0f64..1.0,
        ) {
            let layout = layout(root, &members);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut cells: Vec<OwnedCell> = (0..8).map(|_| random_cell(&layout, 200, &mut rng)).collect();
            for (row, tables) in &mut cells {
                for x in std::iter::once(row).chain(tables.iter_mut().flatten()).flatten() {
                    if rng.random_bool(zeros_ratio) {
                        *x = if rng.random_bool(0.9) { 0.0 } else { -0.0 };
                    }
                }
            }
            let batch = batch_of_owned(&layout, &cells);
            let mut store = CellStore::new(&layout);
            let rows: Vec<CellRow> = (0..cells.len()).map(|cell| store.push(&batch, cell)).collect();
            prop_assert_eq!(bits(&store.batch(&rows, None, None)), bits(&batch));
            // In any order and number, and padded to those asked for.
            let chosen = [5, 2, 5];
            let expected: Vec<OwnedCell> = chosen.iter().map(|i| cells[*i].clone()).collect();
            let asked: Vec<CellRow> = chosen.iter().map(|i| rows[*i]).collect();
            prop_assert_eq!(bits(&store.batch(&asked, None, None)), bits(&batch_of_owned(&layout, &expected)));
            for (t, _) in members.iter().enumerate() {
                prop_assert_eq!(store.members_of(rows[3], t), cells[3].1[t].len());
            }
        }
    }

    #[test]
    fn a_task_reads_rows_beyond_those_attended_to_of_its_own_table_alone() {
        let layout = layout(3, &[4, 2]);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let row = |width: usize| vec![0.5_f32; width];
        let cell: OwnedCell = (row(3), vec![vec![row(4); 6], vec![row(2); 5]]);
        let mut batch = batch_of_owned(&layout, &[cell, random_cell(&layout, 2, &mut rng)]);
        (batch.members[0].attended[0], batch.members[1].attended[0]) = (4, 3);
        let mut store = CellStore::new(&layout);
        let rows = [store.push(&batch, 0), store.push(&batch, 1)];
        let slots = |target| {
            let read = store.batch(&rows, None, target);
            assert_eq!(read.members[0].attended, batch.members[0].attended);
            read.members
                .iter()
                .map(|block| block.slots)
                .collect::<Vec<_>>()
        };
        assert_eq!(slots(None), [6, 5]);
        assert_eq!(slots(Some(TowerTarget::Root)), [4, 3]);
        assert_eq!(slots(Some(TowerTarget::Member(1))), [4, 5]);
        assert_eq!(bits(&store.batch(&rows, None, None)), bits(&batch));
    }

    #[test]
    fn a_cell_larger_than_a_block_is_kept_whole() {
        let layout = layout(BLOCK_BYTES / 4, &[]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut store = CellStore::new(&layout);
        let cells: Vec<OwnedCell> = (0..3).map(|_| random_cell(&layout, 0, &mut rng)).collect();
        let batch = batch_of_owned(&layout, &cells);
        let rows: Vec<CellRow> = (0..3).map(|cell| store.push(&batch, cell)).collect();
        assert_eq!(bits(&store.batch(&rows, None, None)), bits(&batch));
        assert_eq!(store.len(), 3);
    }

    #[test]
    fn zeros_take_no_space() {
        let layout = layout(5000, &[300]);
        let mut store = CellStore::new(&layout);
        let mut cell: OwnedCell = (vec![0.0; 5000], vec![vec![vec![0.0; 300]; 4]]);
        (0..100).for_each(|i| cell.0[i * 50] = 1.5);
        let batch = batch_of_owned(&layout, &[cell]);
        for _ in 0..10_000 {
            store.push(&batch, 0);
        }
        assert!(store.heap_bytes() < 10_000 * 550, "{}", store.heap_bytes());
    }

    #[test]
    fn normalising_on_the_way_is_normalising_afterwards() {
        let layout = layout(40, &[7, 3]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let fitted = crate::testing::untrained(&layout, &mut rng);
        let mut store = CellStore::new(&layout);
        let cells: Vec<OwnedCell> = (0..6)
            .map(|_| {
                let mut cell = random_cell(&layout, 5, &mut rng);
                cell.0.iter_mut().step_by(3).for_each(|x| *x = 0.0);
                cell
            })
            .collect();
        let mut batch = batch_of_owned(&layout, &cells);
        let rows: Vec<CellRow> = (0..6).map(|cell| store.push(&batch, cell)).collect();
        fitted.normaliser.apply(&mut batch);
        assert_eq!(
            bits(&store.batch(&rows, Some(&fitted.normaliser), None)),
            bits(&batch)
        );
    }
}
