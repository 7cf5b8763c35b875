//! Relations: edges between entities besides ownership.

use crate::catalog::{Meaning, Relation, RelationId, RelationKind, Role, Table, TableId};

/// Edges besides ownership and identity, by table and field.
pub(crate) fn relations(tables: &[Table]) -> Vec<Relation> {
    let mut relations = Vec::new();
    let is_node = |table: TableId| matches!(tables[table.index()].role, Role::Root | Role::Member);
    for table in tables
        .iter()
        .filter(|t| t.role.is_learned() && !matches!(t.role, Role::Hub | Role::Staff))
    {
        let mut add = |name: String, kind, target, group: Option<String>| {
            let id = RelationId(relations.len() as u16);
            relations.push(Relation {
                id,
                name,
                kind,
                from: table.id,
                target,
                group,
            });
        };
        let mut previous = None;
        for field in &table.fields {
            let Some(reference) = field.reference.filter(|r| is_node(r.table)) else {
                continue;
            };
            let is_owner = reference.owner || table.owners.contains(&field.id);
            match reference.meaning {
                Meaning::Previous => previous = Some((reference.table, field.group.clone())),
                Meaning::Related if !is_owner => {
                    let kind = if table.role == Role::Event {
                        RelationKind::Mention(field.id)
                    } else {
                        RelationKind::Reference(field.id)
                    };
                    add(
                        format!("{}.{}", table.name, field.name),
                        kind,
                        reference.table,
                        field.group.clone(),
                    );
                }
                // A member that may be owned by a root may have been owned by another before.
                _ if is_owner
                    && table.role == Role::Member
                    && tables[reference.table.index()].role == Role::Root =>
                {
                    let group = previous
                        .as_ref()
                        .and_then(|(_, group): &(TableId, Option<String>)| group.clone());
                    previous = Some((reference.table, group.or_else(|| field.group.clone())));
                }
                _ => {}
            }
        }
        if let Some((target, group)) = previous {
            add(
                format!("{}/previous", table.name),
                RelationKind::Previous,
                target,
                group,
            );
        }
    }
    relations
}
