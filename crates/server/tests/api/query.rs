//! Queries: their plans and their faults.

use std::sync::Arc;

use leadpulse_engine::read_model::ReadModel;
use leadpulse_server::{NamedText, PlannedQuery, QueryDesk, QueryFault, QueryPlanner, QueryRemark};
use serde_json::{Value, json};

use crate::document::check;
use crate::support::{Server, local, state_of};

/// Plans `right`, and finds a fault in a named target of everything else.
pub struct OneQuery;

impl QueryPlanner for OneQuery {
    fn plan(&self, text: &str) -> Result<PlannedQuery, Box<QueryFault>> {
        if text == "right" {
            return Ok(PlannedQuery {
                text: "RIGHT".into(),
                entity: "accounts".into(),
                horizon_ms: 7,
                meaning: vec!["for every row of accounts".into()],
                remarks: vec![QueryRemark {
                    message: "every row counts".into(),
                    hint: "say which".into(),
                }],
            });
        }
        Err(Box::new(QueryFault {
            message: "there is no table leeks".into(),
            hint: String::new(),
            line: 1,
            column: 7,
            length: 5,
            target: Some(NamedText {
                name: "leaky".into(),
                text: "COUNT(leeks.*)".into(),
            }),
        }))
    }
}

#[test]
fn a_query_has_a_plan_or_a_fault_with_its_place() {
    let mut state = state_of(&Arc::new(ReadModel::new()));
    state.queries = Some(QueryDesk(Arc::new(OneQuery)));
    let server = Server::serving(&local(), state);
    let document = server.get("/api/v1/openapi.json").json();
    let path = "/api/v1/query";
    let planned = server.post(path, &json!({"query": "right"}));
    assert_eq!(planned.code, 200);
    let planned = planned.json();
    check(&document, "post", path, 200, &planned);
    assert_eq!(
        (&planned["plan"]["text"], &planned["error"]),
        (&json!("RIGHT"), &Value::Null)
    );
    let wrong = server.post(path, &json!({"query": "wrong"}));
    assert_eq!(wrong.code, 200, "the request was right");
    let wrong = wrong.json();
    check(&document, "post", path, 200, &wrong);
    assert_eq!(
        (&wrong["plan"], &wrong["error"]["column"]),
        (&Value::Null, &json!(7))
    );
    let refused = server.post(path, &json!({"pql": "right"}));
    assert_eq!(refused.code, 400);
    check(&document, "post", path, 400, &refused.json());
}

#[test]
fn a_process_without_a_planner_refuses_queries() {
    let refused = Server::start().post("/api/v1/query", &json!({"query": "right"}));
    assert_eq!(refused.code, 503);
    assert!(
        refused.body.contains("plans no queries"),
        "{}",
        refused.body
    );
}
