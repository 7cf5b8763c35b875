//! The events that are no engagement: by their values, or by coming in bursts.

use std::collections::BTreeMap;

use crate::catalog::fault::Faults;
use crate::catalog::load::Draft;
use crate::catalog::{Bursting, DataType, Field, FieldId, Role};

/// The values that are no engagement, in the order of their fields' names.
pub(crate) fn not_engagement(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Vec<(FieldId, Vec<String>)> {
    let annotation = &draft.annotation.not_engagement;
    if role != Role::Event && !annotation.is_empty() {
        faults.record(
            "declares not_engagement, but is not an event table",
            "only events make an entity active: remove not_engagement",
        );
    }
    listed("not_engagement", annotation, draft, fields, faults)
}

/// The events that mail scanners make in bursts.
pub(crate) fn bursts(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Option<Bursting> {
    let annotation = draft.annotation.bursts.as_ref()?;
    if role != Role::Event {
        faults.record(
            "declares bursts, but is not an event table",
            "only events come in bursts: remove bursts",
        );
    }
    let only = listed("bursts.only", &annotation.only, draft, fields, faults);
    let name = &annotation.campaign;
    if !draft.fields.iter().any(|f| f.name == *name) {
        faults.record(
            format!("its bursts name the field '{name}', which it does not have"),
            "name the field with the mail or campaign as campaign",
        );
    }
    let field = fields.iter().find(|f| f.name == *name)?;
    if !matches!(field.data_type, DataType::Text | DataType::Symbol(_)) {
        faults.field(
            name,
            "is the campaign of bursts, but is not text or an enum",
            "events of one campaign have the same text",
        );
    }
    Some(Bursting {
        campaign: field.id,
        only,
    })
}

/// Fields with values, of a property that looks values up.
fn listed(
    property: &str,
    annotation: &BTreeMap<String, Vec<String>>,
    draft: &Draft,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Vec<(FieldId, Vec<String>)> {
    let mut found = Vec::new();
    for (name, values) in annotation {
        if !draft.fields.iter().any(|f| f.name == *name) {
            faults.record(
                format!("its {property} names the field '{name}', which it does not have"),
                "name the field that says what kind of event it is",
            );
        }
        let Some(field) = fields.iter().find(|f| f.name == *name) else {
            continue;
        };
        match &field.data_type {
            DataType::Text => {}
            DataType::Symbol(symbols) => {
                for value in values.iter().filter(|v| !symbols.contains(v)) {
                    faults.field(
                        name,
                        format!("{property} names the value '{value}', which it cannot have"),
                        format!("its values: {}", symbols.join(", ")),
                    );
                }
            }
            _ => faults.field(
                name,
                format!("is a field of {property}, but is not text or an enum"),
                format!("{property} looks up its value"),
            ),
        }
        if values.is_empty() {
            faults.field(
                name,
                format!("{property} without values"),
                "list the values, as in {\"type\": [\"email_sent\", \"task\"]}",
            );
        }
        found.push((field.id, values.clone()));
    }
    found
}
