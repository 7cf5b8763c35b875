//! The fields of tables with decisions of people, with answers to alerts, and with requests to
//! erase.

use crate::catalog::annotations::{ErasureAnnotation, FeedbackAnnotation, OverrideAnnotation};
use crate::catalog::fault::Faults;
use crate::catalog::load::Draft;
use crate::catalog::{
    DataType, ErasureFields, FeedbackFields, Field, FieldId, OverrideFields, Role,
};
use crate::{AlertVerdict, ErasureAction, PersonDecision};

/// The fields of a person's decision, for an override table.
pub(crate) fn override_fields(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Option<OverrideFields> {
    let annotation = draft.annotation.overrides.as_ref();
    let annotation = of_role(annotation, (role, Role::Override), faults)?;
    let OverrideAnnotation {
        decision,
        who,
        why,
        until,
    } = annotation;
    if !fields
        .iter()
        .any(|f| f.reference.is_some_and(|reference| reference.owner))
    {
        faults.record(
            "is an override table without a subject",
            "mark the reference to the entity that is decided about with \"owner\": true, as in {\"ref\": \"accounts\", \"owner\": true}",
        );
    }
    let mut named = NamedFields {
        property: "override",
        draft,
        fields,
        faults,
    };
    let decision = named.words(decision, &PersonDecision::NAMES);
    let who = named.text(who);
    let why = why.as_ref().and_then(|name| named.text(name));
    let until = until.as_ref().and_then(|name| named.time(name));
    Some(OverrideFields {
        decision: decision?,
        who: who?,
        why,
        until,
    })
}

/// The fields of a reader's answer, for a feedback table.
pub(crate) fn feedback_fields(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Option<FeedbackFields> {
    let annotation = draft.annotation.feedback.as_ref();
    let annotation = of_role(annotation, (role, Role::Feedback), faults)?;
    let FeedbackAnnotation {
        verdict,
        who,
        disposition,
        note,
        task,
        alert_type,
    } = annotation;
    let mut named = NamedFields {
        property: "feedback",
        draft,
        fields,
        faults,
    };
    let verdict = named.words(verdict, &AlertVerdict::NAMES);
    let who = named.text(who);
    let mut text = |name: &Option<String>| name.as_ref().and_then(|name| named.text(name));
    let [disposition, note, task, alert_type] =
        [disposition, note, task, alert_type].map(&mut text);
    Some(FeedbackFields {
        verdict: verdict?,
        who: who?,
        disposition,
        note,
        task,
        alert_type,
    })
}

/// The fields of a request to erase, for an erasure table.
pub(crate) fn erasure_fields(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Option<ErasureFields> {
    let annotation = draft.annotation.erasure.as_ref();
    let annotation = of_role(annotation, (role, Role::Erasure), faults)?;
    let ErasureAnnotation { who, action, email } = annotation;
    let has_owner = |field: &Field| field.reference.is_some_and(|reference| reference.owner);
    if !fields.iter().any(has_owner) && email.is_none() {
        faults.record(
            "is an erasure table without a subject",
            "mark the reference to the entity to erase with \"owner\": true, or name the field of an address: \"email\"",
        );
    }
    let mut named = NamedFields {
        property: "erasure",
        draft,
        fields,
        faults,
    };
    let who = named.text(who);
    let action = action
        .as_ref()
        .and_then(|name| named.words(name, &ErasureAction::NAMES));
    let email = email.as_ref().and_then(|name| named.text(name));
    Some(ErasureFields {
        who: who?,
        action,
        email,
    })
}

/// The annotation, if it stands at a table of its role, and there only.
fn of_role<'d, A>(
    annotation: Option<&'d A>,
    (role, wanted): (Role, Role),
    faults: &mut Faults<'_>,
) -> Option<&'d A> {
    let name = wanted.name();
    if annotation.is_none() && role == wanted {
        let example = match wanted {
            Role::Override => "{\"decision\": \"decision\", \"who\": \"decided_by\"}",
            Role::Erasure => "{\"who\": \"requested_by\", \"email\": \"email\"}",
            _ => "{\"verdict\": \"verdict\", \"who\": \"given_by\"}",
        };
        faults.record(
            format!("has the role {name}, and names none of its fields"),
            format!("add \"{name}\": {example} to its leadpulse property"),
        );
    }
    if annotation.is_some() && role != wanted {
        faults.record(
            format!("declares {name}, but its role is {}", role.name()),
            format!("give the table the role {name}, or remove {name}"),
        );
    }
    annotation.filter(|_| role == wanted)
}

/// Fields that a property names, each with the type that it needs.
struct NamedFields<'n, 'f> {
    property: &'static str,
    draft: &'n Draft,
    fields: &'n [Field],
    faults: &'n mut Faults<'f>,
}

impl NamedFields<'_, '_> {
    fn text(&mut self, name: &str) -> Option<FieldId> {
        let is_text =
            |data_type: &DataType| matches!(data_type, DataType::Text | DataType::Symbol(_));
        self.of_type(name, is_text, "text or an enum")
    }

    fn time(&mut self, name: &str) -> Option<FieldId> {
        let is_time = |data_type: &DataType| *data_type == DataType::Time;
        self.of_type(name, is_time, "a time")
    }

    /// A field of fixed words: an enum has no others.
    fn words(&mut self, name: &str, words: &[&str]) -> Option<FieldId> {
        let id = self.text(name)?;
        if let DataType::Symbol(symbols) = &self.fields[id.index()].data_type {
            let strange = symbols.iter().filter(|s| !words.contains(&s.as_str()));
            for symbol in strange {
                self.faults.field(
                    name,
                    format!("has the symbol '{symbol}', which no {} is", self.property),
                    format!("its words: {}", words.join(", ")),
                );
            }
        }
        Some(id)
    }

    fn of_type(
        &mut self,
        name: &str,
        fits: impl Fn(&DataType) -> bool,
        expected: &str,
    ) -> Option<FieldId> {
        if !self.draft.fields.iter().any(|field| field.name == name) {
            self.faults.record(
                format!(
                    "its {} names the field '{name}', which it does not have",
                    self.property
                ),
                "name a field of the record",
            );
        }
        let field = self.fields.iter().find(|field| field.name == name)?;
        if !fits(&field.data_type) {
            self.faults.field(
                name,
                format!("is a field of {}, but is not {expected}", self.property),
                format!("make its type {expected}"),
            );
        }
        Some(field.id)
    }
}
