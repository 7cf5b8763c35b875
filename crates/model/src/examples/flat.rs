//! Examples as rows of plain numbers: those that boosted trees read.

use leadpulse_features::Layout;
use leadpulse_schema::TableId;

use crate::examples::ExampleSet;
use crate::fit::target_of;
use crate::network::TowerTarget;
use crate::trees::columns::{ColumnPool, GridCell, STEPS, TreeColumn};

/// The numbers of an example for tasks about the entities of one table: the columns of the root,
/// the columns of each member table pooled over its rows, and those of the entity's own row.
#[derive(Clone, Debug)]
pub struct FlatColumns {
    columns: Vec<TreeColumn>,
    target: TowerTarget,
    names: Vec<String>,
}

impl FlatColumns {
    /// The numbers for tasks about a table, the root or a member.
    pub fn new(layout: &Layout, entity: TableId) -> Self {
        let target = target_of(layout, entity);
        let columns = TreeColumn::all(layout, target, 1);
        let names = columns.iter().map(|c| name(layout, target, *c)).collect();
        Self {
            columns,
            target,
            names,
        }
    }

    /// Names of the numbers, each different: `COLUMN` of the root, `TABLE[count]`,
    /// `TABLE[sum]/COLUMN`, `TABLE[max]/COLUMN`, `TABLE[mean]/COLUMN`, and `own/COLUMN`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers of some examples, `[examples, names]`, rounded to 1/4096 as trees read them.
    pub fn values(&self, examples: &ExampleSet, indices: &[usize]) -> Vec<Vec<f32>> {
        let batch = examples.feature_batch(indices);
        let rows = indices.iter().enumerate().map(|(cell, index)| {
            let grid = GridCell::new(&batch, cell);
            let slot = examples.examples()[*index].slot;
            let columns = self.columns.iter();
            let numbers = columns.map(|column| grid.value(*column, self.target, slot));
            numbers.map(|x| (x as f64 / STEPS) as f32).collect()
        });
        rows.collect()
    }
}

fn name(layout: &Layout, target: TowerTarget, column: TreeColumn) -> String {
    match column {
        TreeColumn::Bucket => "bucket".to_owned(),
        TreeColumn::Root(index) => layout.root[index].name.clone(),
        TreeColumn::Count(table) => format!("{}[count]", layout.members[table].name),
        TreeColumn::Pool {
            table,
            column,
            pool,
        } => {
            let pool = match pool {
                ColumnPool::Sum => "sum",
                ColumnPool::Max => "max",
                ColumnPool::Mean => "mean",
            };
            let member = &layout.members[table];
            format!("{}[{pool}]/{}", member.name, member.columns[column].name)
        }
        TreeColumn::Own(index) => match target {
            TowerTarget::Root => format!("own/{index}"),
            TowerTarget::Member(table) => {
                format!("own/{}", layout.members[table].columns[index].name)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_graph::EntityId;

    use super::*;
    use crate::network::head::Outcome;
    use crate::testing::{batch_of, layout, one_set};

    #[test]
    fn the_numbers_of_an_example_stand_under_their_names() {
        let layout = layout(1, &[1]);
        let batch = batch_of(&layout, &[(&[0.5], &[&[&[1.0], &[-3.0]]])]);
        let examples = one_set(&layout, &batch, |_| {
            (1, EntityId(7), 0, Outcome::Window(true))
        });
        let flat = FlatColumns::new(&layout, layout.members[0].table);
        let values = flat.values(&examples, &[0]);
        let (root, member) = (&layout.root[0].name, &layout.members[0]);
        let of_member = |how: &str| format!("{}[{how}]/{}", member.name, member.columns[0].name);
        let expected = [
            (root.clone(), 0.5),
            (format!("{}[count]", member.name), 2.0),
            (of_member("sum"), -2.0),
            (of_member("max"), 1.0),
            (of_member("mean"), -1.0),
            (format!("own/{}", member.columns[0].name), -3.0),
        ];
        let found = flat.names().iter().cloned().zip(values[0].iter().copied());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
