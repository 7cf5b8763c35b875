//! Rules between tables: names are unique, there is one root, owners lead home, every node type receives messages.

use rustc_hash::FxHashMap;

use crate::catalog::fault::{Faults, SchemaFault};
use crate::catalog::load::Draft;
use crate::catalog::{Catalog, Role, Table, TableId};

fn faults_of<'a>(draft: &'a Draft, list: &'a mut Vec<SchemaFault>) -> Faults<'a> {
    Faults {
        list,
        file: &draft.file,
        record: &draft.record,
    }
}

/// Names and aliases, lower case, to tables; drafts are in table order.
pub(crate) fn names(drafts: &[Draft], list: &mut Vec<SchemaFault>) -> FxHashMap<String, TableId> {
    let mut names: FxHashMap<String, TableId> = FxHashMap::default();
    // Names before aliases: a name that is also another table's alias is that alias's fault.
    let own = drafts
        .iter()
        .enumerate()
        .map(|(i, d)| (i, &d.annotation.table));
    let aliases = drafts
        .iter()
        .enumerate()
        .flat_map(|(i, d)| d.annotation.aliases.iter().map(move |a| (i, a)));
    for (i, name) in own.clone().chain(aliases) {
        let lower = name.to_lowercase();
        let mut faults = faults_of(&drafts[i], list);
        let is_identifier = lower.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && lower.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_identifier {
            faults.record(
                format!("'{name}' is no table name"),
                "use letters, digits and _, starting with a letter, so that queries can name it",
            );
        }
        match names.get(&lower) {
            Some(other) if other.index() == i => faults.record(
                format!("'{name}' is given twice"),
                "a table's aliases are other names than its own",
            ),
            Some(other) => faults.record(
                format!(
                    "'{name}' names the table of {} too",
                    drafts[other.index()].file
                ),
                "names and aliases are unique, whatever their case",
            ),
            None => {
                names.insert(lower, TableId(i as u16));
            }
        }
    }
    for (i, name) in own {
        if *name != name.to_lowercase() {
            faults_of(&drafts[i], list).record(
                format!("the table name '{name}' has capitals"),
                format!("write '{}'", name.to_lowercase()),
            );
        }
    }
    names
}

/// Exactly one table is the root.
pub(crate) fn one_root(drafts: &[Draft], folder: &str, list: &mut Vec<SchemaFault>) {
    let roots: Vec<&Draft> = drafts
        .iter()
        .filter(|d| Role::from(d.annotation.role) == Role::Root)
        .collect();
    if roots.is_empty() {
        let what = if drafts.is_empty() {
            "no file defines a table"
        } else {
            "no table is the root"
        };
        Faults { list, file: folder, record: "" }
            .record(what, "give the table whose rows are the accounts \"leadpulse\": {\"table\": \"accounts\", \"role\": \"root\"}");
    }
    for second in roots.iter().skip(1) {
        faults_of(second, list).record(
            format!("is a root table, but so is '{}'", roots[0].annotation.table),
            "one table is the root; the others are members, hubs or events",
        );
    }
}

fn owner_tables(table: &Table) -> impl Iterator<Item = TableId> {
    table
        .owners
        .iter()
        .filter_map(|f| table.field_at(*f).reference)
        .map(|r| r.table)
}

/// Following owners never comes back to the same table, or rows could own each other.
pub(crate) fn owners_without_cycle(
    catalog: &Catalog,
    drafts: &[Draft],
    list: &mut Vec<SchemaFault>,
) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    fn visit(
        catalog: &Catalog,
        id: TableId,
        marks: &mut [Mark],
        path: &mut Vec<TableId>,
    ) -> Option<Vec<TableId>> {
        marks[id.index()] = Mark::Open;
        path.push(id);
        for owner in owner_tables(catalog.table_at(id)) {
            match marks[owner.index()] {
                Mark::Open => {
                    let start = path
                        .iter()
                        .position(|t| *t == owner)
                        .expect("an open table is on the path");
                    return Some(path[start..].to_vec());
                }
                Mark::New => {
                    if let Some(cycle) = visit(catalog, owner, marks, path) {
                        return Some(cycle);
                    }
                }
                Mark::Done => {}
            }
        }
        path.pop();
        marks[id.index()] = Mark::Done;
        None
    }
    let mut marks = vec![Mark::New; catalog.tables.len()];
    for table in &catalog.tables {
        if marks[table.id.index()] != Mark::New {
            continue;
        }
        if let Some(cycle) = visit(catalog, table.id, &mut marks, &mut Vec::new()) {
            let mut names: Vec<&str> = cycle
                .iter()
                .map(|t| catalog.table_at(*t).name.as_str())
                .collect();
            names.push(names[0]);
            faults_of(&drafts[cycle[0].index()], list).record(
                format!("its owners form a cycle: {}", names.join(" → ")),
                "mark with \"owner\": true only the references that lead towards the root; without any mark, all references are owners",
            );
            return;
        }
    }
}

/// Every node type is connected: a member can reach a root, and every entity or hub table has a neighbour.
pub(crate) fn every_table_is_connected(
    catalog: &Catalog,
    drafts: &[Draft],
    list: &mut Vec<SchemaFault>,
) {
    let needs_neighbours = |table: &&Table| table.role != Role::Event && table.role.is_learned();
    for table in catalog.tables.iter().filter(needs_neighbours) {
        let referred_to = catalog.tables.iter().any(|t| {
            let names_it =
                |f: &crate::catalog::Field| f.reference.is_some_and(|r| r.table == table.id);
            t.fields.iter().any(names_it) && t.id != table.id && t.role.is_learned()
        });
        let named_as_hub = catalog
            .hubs
            .iter()
            .any(|h| h.table == Some(table.id) && !h.sources.is_empty());
        let refers = table
            .fields
            .iter()
            .any(|f| f.hub.is_some() || f.reference.is_some_and(|r| r.table != table.id));
        let mut faults = faults_of(&drafts[table.id.index()], list);
        // A table alone has its own versions to learn from, if they have times.
        let learned = catalog.tables.iter().filter(|t| t.role.is_learned());
        let is_alone = learned.count() == 1 && table.time.is_some();
        if !referred_to && !named_as_hub && !refers && !is_alone {
            faults.record(
                "receives no messages: no event hangs on it, no reference points to it, and it refers to nothing",
                "add an event table or a reference, give a table that stands alone a time, or take the table out",
            );
        } else if table.role == Role::Member
            && table.owners.is_empty()
            && !table.fields.iter().any(|f| f.match_by.is_some())
        {
            faults.record(
                "is a member that cannot reach a root: it has no owner and nothing to match by",
                "add a ref to the root or another member, or mark an e-mail address or website with \"match\"",
            );
        }
    }
}
