//! Text with places for fields: `*{severity}* {account_name|entity_id}`.

use serde_json::Value as Json;

use crate::protocols::Fields;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Names of fields; the first that is not null stands here.
    Place(Vec<String>),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

impl Template {
    /// Parses a text. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// A brace without its other half, or a field that is not among `known`, in words.
    pub(crate) fn parse(text: &str, known: &[String]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let inside = after.split_once('}').filter(|_| brace == "{");
            let (inside, after) = inside.ok_or_else(|| {
                format!("a single {brace} at {at}; write {brace}{brace} for a brace")
            })?;
            let names: Vec<String> = inside
                .split('|')
                .map(|name| name.trim().to_owned())
                .collect();
            if let Some(name) = names.iter().find(|name| !known.contains(name)) {
                return Err(format!(
                    "{{{inside}}}: there is no field {name:?}; docs/events.md lists the fields"
                ));
            }
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Place(names));
            rest = after;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The text for a record; `escape` is applied to values of fields. A place without any value is
    /// empty.
    pub(crate) fn fill(&self, record: &Fields, escape: fn(&str) -> String) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Place(names) => {
                    let values = names.iter().filter_map(|name| record.get(name));
                    let value = values.map(shown).find(|value| !value.is_empty());
                    text.push_str(&escape(&value.unwrap_or_default()));
                }
            }
        }
        text
    }
}

/// A value for people: numbers with two decimals at most.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{}", (float * 100.0).round() / 100.0),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Vec<String> {
        ["name", "id", "score"].map(str::to_owned).to_vec()
    }

    #[test]
    fn places_are_filled_with_the_first_value_there_is() {
        let template = Template::parse("{{*{name|id}*}} at {score}: {name}", &known()).unwrap();
        let record = json!({"name": null, "id": "A<1>", "score": 71.23456});
        let text = template.fill(record.as_object().unwrap(), |text| {
            text.replace('<', "&lt;")
        });
        assert_eq!(text, "{*A&lt;1>*} at 71.23: ");
    }

    #[test]
    fn a_misspelt_field_or_brace_is_refused() {
        for (text, word) in [
            ("{title}", "title"),
            ("{name", "single {"),
            ("name}", "single }"),
        ] {
            let error = Template::parse(text, &known()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
