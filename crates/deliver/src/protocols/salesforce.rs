//! Salesforce: objects are upserted by an external id, up to 200 in one request.
//!
//! The request is a
//! [composite collection](https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections_upsert.htm)
//! with `allOrNone: false`: its answer has a result for each record, in their order.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::fate::{Fate, Judgement, Later, by_status, later};
use crate::protocols::{CrmFields, Fields, Protocol};
use crate::request::{HttpAnswer, HttpRequest, Method};

/// Codes of errors that pass: locks, limits of a day or an hour, outages.
const PASSING: [&str; 10] = [
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "API_CURRENTLY_DISABLED",
    "APEX_TIMEOUT",
    "CONCURRENT_REQUEST_LIMIT_EXCEEDED",
    "INVALID_SESSION_ID",
    "QUERY_TIMEOUT",
    "REQUEST_LIMIT_EXCEEDED",
    "REQUEST_RUNNING_TOO_LONG",
    "SERVER_UNAVAILABLE",
    "UNABLE_TO_LOCK_ROW",
];

/// Scores for one object.
pub(crate) struct Salesforce {
    pub(crate) url: String,
    pub(crate) object: String,
    pub(crate) external_id: String,
    pub(crate) crm: CrmFields,
}

impl Salesforce {
    /// The address of upserts, from that of the organisation.
    pub(crate) fn upserts(base: &str, version: &str, object: &str, external_id: &str) -> String {
        let base = base.trim_end_matches('/');
        format!("{base}/services/data/{version}/composite/sobjects/{object}/{external_id}")
    }
}

/// The result of one record.
#[derive(Deserialize)]
struct UpsertResult {
    success: bool,
    #[serde(default)]
    errors: Vec<UpsertError>,
}

/// An error of a record or of a request.
#[derive(Deserialize)]
struct UpsertError {
    #[serde(alias = "errorCode", rename = "statusCode")]
    code: String,
    #[serde(default)]
    message: String,
}

impl UpsertError {
    fn passes(&self) -> bool {
        PASSING.contains(&self.code.as_str())
    }
}

impl UpsertResult {
    fn fate(self) -> Fate {
        if self.success {
            return Fate::Delivered;
        }
        let said = |error: &UpsertError| format!("{}: {}", error.code, error.message);
        let reason: Vec<String> = self.errors.iter().map(said).collect();
        let reason = reason.join("; ");
        // An error without a code says nothing about the record.
        if self.errors.is_empty() || self.errors.iter().any(UpsertError::passes) {
            return Fate::Later(Later::because(reason));
        }
        Fate::Refused(reason)
    }
}

impl Protocol for Salesforce {
    fn wants(&self, record: &Fields) -> bool {
        self.crm.wants(record)
    }

    fn plan(&self, records: &[&Fields]) -> Vec<Vec<usize>> {
        self.crm.plan(records)
    }

    fn request(&self, records: &[&Fields], _: i64) -> HttpRequest {
        let object = |score: &&Fields| {
            let mut object = json!({"attributes": {"type": self.object}});
            let fields = object.as_object_mut().expect("it was made as an object");
            fields.insert(self.external_id.clone(), self.crm.key_of(score).into());
            fields.extend(self.crm.values(score));
            object
        };
        let objects: Vec<Json> = records.iter().map(object).collect();
        let body = json!({"allOrNone": false, "records": objects}).to_string();
        HttpRequest::json(Method::Patch, &self.url, body.into_bytes())
    }

    fn judge(&self, records: &[&Fields], answer: &HttpAnswer) -> Judgement {
        if !(200..300).contains(&answer.status) {
            // The limit of requests is told with 403, which refuses for good elsewhere.
            let errors: Vec<UpsertError> = serde_json::from_slice(&answer.body).unwrap_or_default();
            if errors.iter().any(UpsertError::passes) {
                return Judgement::Together(later(answer));
            }
            return Judgement::Together(by_status(answer));
        }
        let results: Vec<UpsertResult> = serde_json::from_slice(&answer.body).unwrap_or_default();
        if results.len() != records.len() {
            let reason = format!("no result for each of {} records", records.len());
            return Judgement::Together(Fate::Later(Later::because(reason)));
        }
        Judgement::Each(results.into_iter().map(UpsertResult::fate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salesforce() -> Salesforce {
        Salesforce {
            url: Salesforce::upserts("https://acme/", "v62.0", "Account", "Key__c"),
            object: "Account".into(),
            external_id: "Key__c".into(),
            crm: CrmFields {
                key: "entity_id".into(),
                task: "wins".into(),
                entity: Some("accounts".into()),
                fields: [("Score__c", "score"), ("Band__c", "band")]
                    .map(|(to, from)| (to.to_owned(), from.to_owned()))
                    .into(),
                batch: 2,
            },
        }
    }

    fn score(entity: &str, score: Option<f64>) -> Fields {
        let score = json!({
            "task": "wins", "entity_type": "accounts", "entity_id": entity, "score": score,
            "band": score.map(|_| "hot"),
        });
        score.as_object().unwrap().clone()
    }

    fn judge(status: u16, body: &Json) -> Judgement {
        let (one, two) = (score("A", None), score("B", None));
        let body = body.to_string().into_bytes();
        let answer = HttpAnswer {
            status,
            body,
            ..HttpAnswer::default()
        };
        salesforce().judge(&[&one, &two], &answer)
    }

    #[test]
    fn the_newest_score_of_each_key_is_upserted_by_the_external_id() {
        let salesforce = salesforce();
        let scores = [("A", 1.0), ("B", 2.0), ("A", 3.0), ("C", 4.0)];
        let scores = scores.map(|(entity, of)| score(entity, Some(of)));
        let scores: Vec<&Fields> = scores.iter().collect();
        assert_eq!(salesforce.plan(&scores), [vec![1, 2], vec![3]]);
        let request = salesforce.request(&[scores[2], &score("D", None)], 0);
        assert_eq!(
            request.url,
            "https://acme/services/data/v62.0/composite/sobjects/Account/Key__c"
        );
        let body: Json = serde_json::from_slice(&request.body).unwrap();
        let account = json!({"type": "Account"});
        assert_eq!(
            body,
            json!({"allOrNone": false, "records": [
                {"attributes": account, "Key__c": "A", "Score__c": 3.0, "Band__c": "hot"},
                {"attributes": account, "Key__c": "D", "Score__c": null, "Band__c": null},
            ]})
        );
    }

    #[test]
    fn scores_of_other_tasks_and_tables_are_passed_over() {
        let salesforce = salesforce();
        assert!(salesforce.wants(&score("A", None)));
        for (field, value) in [
            ("task", "other"),
            ("entity_type", "leads"),
            ("entity_id", ""),
        ] {
            let mut other = score("A", None);
            other.insert(field.into(), value.into());
            assert!(!salesforce.wants(&other), "{field}");
        }
    }

    #[test]
    fn each_record_has_a_fate_of_its_own() {
        let error = |code: &str| json!({"success": false, "errors": [{"statusCode": code, "message": "m", "fields": []}]});
        let ok = json!({"id": "001", "success": true, "errors": [], "created": true});
        let fates = |first: Json, second: Json| match judge(200, &json!([first, second])) {
            Judgement::Each(fates) => fates,
            other => panic!("{other:?}"),
        };
        let found = fates(ok.clone(), error("UNABLE_TO_LOCK_ROW"));
        assert!(
            matches!(found[..], [Fate::Delivered, Fate::Later(_)]),
            "{found:?}"
        );
        let found = fates(error("REQUIRED_FIELD_MISSING"), ok);
        assert!(
            matches!(found[..], [Fate::Refused(_), Fate::Delivered]),
            "{found:?}"
        );
    }

    #[test]
    fn answers_without_a_result_for_each_record_decide_nothing() {
        for (status, body) in [
            (200, json!([{"success": true}])),
            (200, json!("half an answ")),
            (
                401,
                json!([{"errorCode": "INVALID_SESSION_ID", "message": "expired"}]),
            ),
            (
                403,
                json!([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "of today"}]),
            ),
            (503, json!(null)),
        ] {
            let judged = judge(status, &body);
            assert!(
                matches!(judged, Judgement::Together(Fate::Later(_))),
                "{status}: {judged:?}"
            );
        }
        let judged = judge(
            400,
            &json!([{"errorCode": "JSON_PARSER_ERROR", "message": "m"}]),
        );
        assert!(
            matches!(judged, Judgement::Together(Fate::Refused(_))),
            "{judged:?}"
        );
    }
}
