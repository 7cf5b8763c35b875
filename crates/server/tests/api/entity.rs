//! One entity.

use std::sync::{Arc, Barrier};
use std::thread;

use leadpulse_engine::read_model::ReadModel;
use leadpulse_records::ScorePoint;
use leadpulse_server::{
    ArchiveDesk, ArchiveFault, PastCursor, PastPoints, PastQuestion, ScoreArchive,
};
use serde_json::{Value, json};

use crate::document::check;
use crate::support::{Server, live, local, score, state_of};

#[test]
fn an_entity_has_its_scores_and_alerts() {
    let server = Server::start();
    server.publish(1, &[("A", 0.1), ("B/1 ü", 0.9)], &["A", "B/1 ü"]);
    let answer = server.get("/api/v1/accounts/B%2F1%20%C3%BC").json();
    assert_eq!(
        (&answer["id"], &answer["scores"][0]["name"]),
        (&json!("B/1 ü"), &json!("Company B/1 ü"))
    );
    assert_eq!(
        (
            answer["alerts"].as_array().unwrap().len(),
            &answer["alerts"][0]["alert_id"]
        ),
        (1, &json!("alert-B/1 ü-1"))
    );
}

/// An archive of one entity: points at 10, 20, … 90, read two at a time. Waits for its partner at
/// offset 1000, and fails at 2000.
struct Ninety(Barrier);

impl ScoreArchive for Ninety {
    fn before(&self, question: &PastQuestion) -> Result<PastPoints, ArchiveFault> {
        assert_eq!((&*question.table, &*question.id), ("accounts", "A"));
        let end = match question.before {
            PastCursor::Offset(1000) => {
                self.0.wait();
                self.0.wait();
                0
            }
            PastCursor::Offset(2000) => return Err(ArchiveFault("no broker answers".into())),
            PastCursor::Moment(at_ms) => (at_ms - 1).div_euclid(10).clamp(0, 9),
            PastCursor::Offset(offset) => offset,
        };
        let from = (end - 2).max(0);
        let point = |index: i64| ScorePoint {
            as_of: 10 * (index + 1),
            probability: Some(0.5),
        };
        Ok(PastPoints {
            points: (from..end).map(point).collect(),
            next: (from > 0).then_some(PastCursor::Offset(from)),
            looked_at: (end - from) as u64,
        })
    }
}

#[test]
fn a_past_goes_on_in_the_archive_until_its_beginning() {
    let archive = Arc::new(Ninety(Barrier::new(2)));
    let mut state = state_of(&Arc::new(ReadModel::new()));
    state.archive = Some(ArchiveDesk::new(archive.clone()));
    let server = Server::serving(&local(), state);
    // The newest points are at 85 and 95: the archive goes on before the first of them.
    for (epoch, as_of) in [(1, 85), (2, 95)] {
        let mut newest = score("buys", "accounts", "A", 0.1);
        newest.record.as_of = as_of;
        let scores = vec![newest];
        server.read_model.publish(scores, Vec::new(), live(epoch));
    }
    let document = server.get("/api/v1/openapi.json").json();
    let path = "/api/v1/accounts/A/history";
    let described = "/api/v1/{table}/{id}/history";
    let (mut address, mut found) = (path.to_owned(), Vec::new());
    loop {
        let answer = server.get(&address);
        assert_eq!(answer.code, 200, "{}", answer.body);
        let answer = answer.json();
        check(&document, "get", described, 200, &answer);
        let points = answer["points"].as_array().unwrap();
        let moments = points.iter().map(|point| point["as_of"].as_i64().unwrap());
        found.splice(0..0, moments);
        match &answer["before"] {
            Value::String(before) => address = format!("{path}?before={before}"),
            end => {
                assert_eq!(*end, Value::Null);
                break;
            }
        }
    }
    assert_eq!(found, [10, 20, 30, 40, 50, 60, 70, 80, 85, 95]);

    for (before, code, words) in [
        ("yesterday", 400, "yesterday"),
        ("o2000", 503, "no broker answers"),
    ] {
        let refused = server.get(&format!("{path}?before={before}"));
        assert_eq!(refused.code, code, "{}", refused.body);
        check(&document, "get", described, code, &refused.json());
        assert!(refused.body.contains(words), "{}", refused.body);
    }
    // One client reads the archive at a time; the newest points need no turn.
    thread::scope(|scope| {
        let first = scope.spawn(|| server.get(&format!("{path}?before=o1000")).code);
        archive.0.wait();
        assert_eq!(server.get(&format!("{path}?before=o5")).code, 503);
        assert_eq!(server.get(path).code, 200);
        archive.0.wait();
        assert_eq!(first.join().unwrap(), 200);
    });

    let without = Server::start();
    without.publish(85, &[("A", 0.1)], &[]);
    assert_eq!(without.get(path).json()["before"], Value::Null);
    assert_eq!(without.get(&format!("{path}?before=t85")).code, 503);
    assert_eq!(
        without.get("/api/v1/accounts/B/history?before=t85").code,
        404
    );
}
