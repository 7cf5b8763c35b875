//! HubSpot: properties of objects are updated, up to 100 objects in one request.
//!
//! An answer with [207](https://developers.hubspot.com/docs/api-reference/error-handling#multi-status-errors)
//! lists errors with the ids that they are about. The other objects of the request were updated.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::fate::{Fate, Judgement, Later, by_status};
use crate::protocols::{CrmFields, Fields, Protocol};
use crate::request::{HttpAnswer, HttpRequest, Method};

/// Categories of errors that pass.
const PASSING: [&str; 7] = [
    "CONFLICT",
    "EXPIRED_AUTHENTICATION",
    "GATEWAY_TIMEOUT",
    "INTERNAL_ERROR",
    "RATE_LIMITS",
    "SERVICE_UNAVAILABLE",
    "TIMEOUT",
];

/// Scores for one kind of object.
pub(crate) struct Hubspot {
    pub(crate) url: String,
    pub(crate) token: leadpulse_registry::Secret,
    pub(crate) id_property: Option<String>,
    pub(crate) crm: CrmFields,
}

impl Hubspot {
    /// The address of batch updates, from that of the API.
    pub(crate) fn updates(base: &str, object: &str) -> String {
        let base = base.trim_end_matches('/');
        format!("{base}/crm/v3/objects/{object}/batch/update")
    }
}

/// The answer to a batch, as far as it matters.
#[derive(Deserialize)]
struct BatchAnswer {
    #[serde(default)]
    errors: Vec<BatchError>,
}

/// An error about some objects.
#[derive(Deserialize)]
struct BatchError {
    #[serde(default)]
    category: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    context: BTreeMap<String, Json>,
}

impl BatchError {
    fn fate(&self) -> Fate {
        let reason = format!("{}: {}", self.category, self.message);
        if PASSING.contains(&self.category.as_str()) {
            Fate::Later(Later::because(reason))
        } else {
            Fate::Refused(reason)
        }
    }

    /// The ids that the error is about, as text.
    fn ids(&self) -> Vec<String> {
        let lists = ["ids", "id"]
            .into_iter()
            .filter_map(|name| self.context.get(name));
        let ids = lists.filter_map(Json::as_array).flatten();
        ids.filter_map(Json::as_str).map(str::to_owned).collect()
    }
}

impl Protocol for Hubspot {
    fn wants(&self, record: &Fields) -> bool {
        self.crm.wants(record)
    }

    fn plan(&self, records: &[&Fields]) -> Vec<Vec<usize>> {
        self.crm.plan(records)
    }

    fn request(&self, records: &[&Fields], _: i64) -> HttpRequest {
        let input = |score: &&Fields| {
            let mut input =
                json!({"id": self.crm.key_of(score), "properties": self.crm.values(score)});
            if let Some(property) = &self.id_property {
                input["idProperty"] = property.as_str().into();
            }
            input
        };
        let inputs: Vec<Json> = records.iter().map(input).collect();
        let body = json!({"inputs": inputs}).to_string().into_bytes();
        HttpRequest::json(Method::Post, &self.url, body)
            .with("authorization", format!("Bearer {}", self.token.reveal()))
    }

    fn judge(&self, records: &[&Fields], answer: &HttpAnswer) -> Judgement {
        let fate = by_status(answer);
        if fate != Fate::Delivered {
            return Judgement::Together(fate);
        }
        let Ok(BatchAnswer { errors }) = serde_json::from_slice(&answer.body) else {
            let reason = format!("the answer is not that of a batch: {}", answer.shown());
            return Judgement::Together(Fate::Later(Later::because(reason)));
        };
        let mut by_id: BTreeMap<String, Fate> = BTreeMap::new();
        for error in &errors {
            let ids = error.ids();
            if ids.is_empty() {
                // Nothing says which object: halves of the request find it.
                return Judgement::Together(error.fate());
            }
            for id in ids {
                let fate = error.fate();
                // Of several errors about one object, one that refuses for good decides.
                if matches!(fate, Fate::Refused(_)) || !by_id.contains_key(&id) {
                    by_id.insert(id, fate);
                }
            }
        }
        let fate_of = |record: &&Fields| {
            let fate = by_id.get(self.crm.key_of(record));
            fate.cloned().unwrap_or(Fate::Delivered)
        };
        Judgement::Each(records.iter().map(fate_of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hubspot() -> Hubspot {
        Hubspot {
            url: Hubspot::updates("https://api", "companies"),
            token: leadpulse_registry::Secret::new("pat-1"),
            id_property: Some("leadpulse_key".into()),
            crm: CrmFields {
                key: "entity_id".into(),
                task: "wins".into(),
                entity: None,
                fields: [("score".to_owned(), "score".to_owned())].into(),
                batch: 100,
            },
        }
    }

    fn judge(status: u16, body: &Json) -> Judgement {
        let scores = ["A", "B", "C"].map(|id| {
            let score = json!({"task": "wins", "entity_id": id, "score": 1.5});
            score.as_object().unwrap().clone()
        });
        let scores: Vec<&Fields> = scores.iter().collect();
        let answer = HttpAnswer {
            status,
            body: body.to_string().into_bytes(),
            ..HttpAnswer::default()
        };
        hubspot().judge(&scores, &answer)
    }

    #[test]
    fn a_batch_names_each_object_by_the_unique_property() {
        let score = json!({"task": "wins", "entity_id": "A", "score": 71.5});
        let request = hubspot().request(&[score.as_object().unwrap()], 0);
        assert_eq!(
            request.url,
            "https://api/crm/v3/objects/companies/batch/update"
        );
        assert_eq!(request.header("authorization"), Some("Bearer pat-1"));
        let body: Json = serde_json::from_slice(&request.body).unwrap();
        let input =
            json!({"id": "A", "idProperty": "leadpulse_key", "properties": {"score": 71.5}});
        assert_eq!(body, json!({"inputs": [input]}));
    }

    #[test]
    fn errors_decide_about_the_objects_that_they_name() {
        let answer = json!({"status": "COMPLETE", "results": [{"id": "1"}], "numErrors": 2, "errors": [
            {"category": "OBJECT_NOT_FOUND", "message": "m", "context": {"ids": ["B"]}},
            {"category": "RATE_LIMITS", "message": "m", "context": {"ids": ["C", "B"]}},
        ]});
        let Judgement::Each(fates) = judge(207, &answer) else {
            panic!("a fate each");
        };
        assert!(
            matches!(
                fates[..],
                [Fate::Delivered, Fate::Refused(_), Fate::Later(_)]
            ),
            "{fates:?}"
        );
        let all = judge(200, &json!({"status": "COMPLETE", "results": []}));
        assert_eq!(all, Judgement::Each(vec![Fate::Delivered; 3]));
    }

    #[test]
    fn an_error_about_nobody_is_about_all_and_half_an_answer_decides_nothing() {
        let nobody = json!({"errors": [{"category": "VALIDATION_ERROR", "message": "m"}]});
        let judged = judge(207, &nobody);
        assert!(
            matches!(judged, Judgement::Together(Fate::Refused(_))),
            "{judged:?}"
        );
        for (status, body) in [
            (200, json!("half")),
            (401, json!({})),
            (429, json!({})),
            (502, json!({})),
        ] {
            let judged = judge(status, &body);
            assert!(
                matches!(judged, Judgement::Together(Fate::Later(_))),
                "{status}: {judged:?}"
            );
        }
    }
}
