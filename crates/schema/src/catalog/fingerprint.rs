//! A catalog's fingerprint: the same for the same meaning, whatever the files are called.

use sha2::{Digest, Sha256};

use crate::catalog::{Catalog, DataType, Field, Table, Verdict};
use crate::hex::hex;

impl Catalog {
    /// SHA-256, in hexadecimal, over what tables and fields mean: names, roles, types, references, hubs, features, stages.
    /// File names, documentation and the order of JSON properties do not count; the order of fields does.
    /// Tables that are [not learned from](crate::Role::is_learned) do not count either: bundles know
    /// nothing of them.
    pub fn fingerprint(&self) -> String {
        let learned = self.tables.iter().filter(|t| t.role.is_learned());
        let tables: Vec<serde_json::Value> = learned.map(|t| self.table_meaning(t)).collect();
        let digest = Sha256::digest(serde_json::Value::from(tables).to_string());
        hex(&digest)
    }

    fn table_meaning(&self, table: &Table) -> serde_json::Value {
        let mut aliases = table.aliases.clone();
        aliases.sort();
        let name_of = |field| &table.field_at(field).name;
        let mut meaning = serde_json::json!([
            table.name,
            format!("{:?}", table.role),
            aliases,
            table
                .fields
                .iter()
                .map(|f| self.field_meaning(f))
                .collect::<Vec<_>>(),
            name_of(table.key),
            table.time.map(name_of),
            table.changed_fields.map(name_of),
            table.owners.iter().map(|f| name_of(*f)).collect::<Vec<_>>(),
            table.staged.as_ref().map(|s| (name_of(s.field), &s.stages)),
            table
                .outcome
                .as_ref()
                .map(|o| (name_of(o.field), &o.won, &o.lost)),
            table.retraction.map(name_of),
        ]);
        // Only where it is declared, so that the schemas of older bundles keep their fingerprint.
        if let (Some(parts), Some(version)) = (meaning.as_array_mut(), table.version) {
            parts.push(serde_json::json!({ "version": name_of(version) }));
        }
        if let (Some(parts), false) = (meaning.as_array_mut(), table.not_engagement.is_empty()) {
            let values = table.not_engagement.iter();
            let values: Vec<_> = values.map(|(f, v)| (name_of(*f), v)).collect();
            parts.push(serde_json::json!({ "not_engagement": values }));
        }
        let verdict = table.outcome.as_ref().map(|outcome| outcome.verdict);
        let verdict = verdict.filter(|verdict| *verdict != Verdict::default());
        if let (Some(parts), Some(verdict)) = (meaning.as_array_mut(), verdict) {
            parts.push(serde_json::json!({ "verdict": format!("{verdict:?}") }));
        }
        if let (Some(parts), Some(bursts)) = (meaning.as_array_mut(), &table.bursts) {
            let only = bursts.only.iter();
            let only: Vec<_> = only.map(|(f, v)| (name_of(*f), v)).collect();
            parts.push(serde_json::json!({ "bursts": [name_of(bursts.campaign), only] }));
        }
        if let (Some(parts), Some(deleted)) = (meaning.as_array_mut(), table.deleted) {
            parts.push(serde_json::json!({ "deleted": name_of(deleted) }));
        }
        if let Some(parts) = meaning.as_array_mut() {
            parts.extend(declared_money_and_staff(table));
        }
        let normalised = table
            .fields
            .iter()
            .filter(|field| !field.normalise.is_empty());
        let steps: Vec<_> = normalised
            .map(|field| (&field.name, format!("{:?}", field.normalise)))
            .collect();
        if let (Some(parts), false) = (meaning.as_array_mut(), steps.is_empty()) {
            parts.push(serde_json::json!({ "normalise": steps }));
        }
        meaning
    }

    fn field_meaning(&self, field: &Field) -> serde_json::Value {
        let data_type = match &field.data_type {
            DataType::Symbol(symbols) => serde_json::json!(symbols),
            other => serde_json::json!(format!("{other:?}")),
        };
        serde_json::json!([
            field.name,
            data_type,
            field.nullable,
            format!("{:?}", field.feature),
            field.reference.map(|r| (
                &self.table_at(r.table).name,
                r.owner,
                format!("{:?}", r.meaning)
            )),
            field.hub.map(|h| &self.hubs[h.index()].name),
            field.values,
            field.is_static,
            field.ordinal,
            field.group,
            field.groups,
            field.match_by.map(|m| format!("{m:?}")),
            field.label,
        ])
    }
}

/// The meaning of assignments and amounts, only where a table declares it.
fn declared_money_and_staff(table: &Table) -> Vec<serde_json::Value> {
    let name_of = |field| &table.field_at(field).name;
    let mut parts = Vec::new();
    for (mark, field) in [("active", table.active), ("territory", table.territory)] {
        parts.extend(field.map(|field| serde_json::json!({ mark: name_of(field) })));
    }
    let amounts: Vec<_> = table
        .amounts()
        .map(|(amount, currency)| (&amount.name, name_of(currency)))
        .collect();
    if !amounts.is_empty() {
        let base = table.rates.as_ref().map(|rates| rates.base());
        parts.push(serde_json::json!({ "amounts": amounts, "base": base }));
    }
    parts
}
