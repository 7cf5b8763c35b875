//! Fields that a schema declares as features, and that no column reads.

use leadpulse_schema::{Catalog, Feature, Field, Role, Table};

/// A declared feature without columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredField {
    /// The field, as `table.field`.
    pub path: String,
    /// The reason, and the remedy.
    pub reason: &'static str,
}

/// The fields of a catalog that are declared and have no columns, by table and field.
pub fn ignored_fields(catalog: &Catalog) -> Vec<IgnoredField> {
    let mut found = Vec::new();
    for table in &catalog.tables {
        for field in &table.fields {
            if let Some(reason) = reason(table, field) {
                found.push(IgnoredField {
                    path: format!("{}.{}", table.name, field.name),
                    reason,
                });
            }
        }
    }
    found
}

/// The reason why a field has no columns; `None` if it has some, or declares no feature.
fn reason(table: &Table, field: &Field) -> Option<&'static str> {
    let is_special = field.id == table.key || Some(field.id) == table.time || field.label;
    if is_special {
        return None;
    }
    match table.role {
        Role::Hub if field.reference.is_some() && field.hub.is_none() => Some(
            "references of a hub to entities are not followed; add the reference to the table that \
             names the hub",
        ),
        Role::Hub if field.feature == Feature::Text => Some(
            "free text of hubs is no feature; derive a category from it, or set \"feature\": \"none\"",
        ),
        Role::Event if field.feature == Feature::Text => Some(
            "free text of events is no feature; derive a category from it, or set \"feature\": \"none\"",
        ),
        Role::Event if field.hub.is_some() && field.feature == Feature::None => Some(
            "events count at the hub, and the reference is no category of theirs; add a text field \
             with \"feature\": \"category\" for few kinds",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_features_without_columns_are_named() {
        let account = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
          {"name":"id","type":"string","leadpulse":{"key":true}},
          {"name":"note","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}}]}"#;
        let product = r#"{"type":"record","name":"Product","leadpulse":{"table":"products","role":"hub"},"fields":[
          {"name":"id","type":"string","leadpulse":{"key":true}},
          {"name":"title","type":["null","string"],"default":null,"leadpulse":{"label":true}},
          {"name":"price","type":["null","double"],"default":null},
          {"name":"about","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}}]}"#;
        let order = r#"{"type":"record","name":"Order","leadpulse":{"table":"orders","role":"event"},"fields":[
          {"name":"id","type":"string","leadpulse":{"key":true}},
          {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
          {"name":"due","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
          {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
          {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
          {"name":"comment","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}},
          {"name":"amount","type":["null","double"],"default":null}]}"#;
        let files = [("a.avsc", account), ("p.avsc", product), ("o.avsc", order)];
        let catalog = Catalog::from_json(&files).unwrap();
        let paths: Vec<String> = ignored_fields(&catalog)
            .into_iter()
            .map(|field| field.path)
            .collect();
        assert_eq!(
            paths,
            ["orders.product", "orders.comment", "products.about"]
        );
    }
}
