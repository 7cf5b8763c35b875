//! Rules of the loop, one test each, over the fakes of `rig`.

mod rig;

use serde_json::{Value as Json, json};

use super::*;
use crate::request::HttpRequest;

use rig::*;

#[test]
fn a_failed_alert_is_sent_again_with_its_key_before_the_next_one() {
    let failures = [lost(), answer(503), answer(409), answer(401)];
    let mut rig = rig(
        "webhook.w",
        &alerts(&["a1", "a2", "a3"]),
        move |number, _| match number {
            1..=4 => failures[number - 1].clone(),
            _ => answer(200),
        },
    );
    rig.until(3);
    assert_eq!(rig.keys(), ["a1", "a2", "a2", "a2", "a2", "a2", "a3"]);
    let bodies = rig.bodies();
    assert!(bodies[1..6].iter().all(|body| *body == bodies[1]));
    let times: Vec<u64> = rig.requests().iter().map(|(at, _)| at.as_secs()).collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[1] >= 1 && pauses[4] >= 8, "{pauses:?}");
    assert_eq!(rig.letters(), []);
    assert_eq!(rig.state.waiting(), None);
    assert_eq!(
        (
            rig.count("records_total", "delivered"),
            rig.count("requests_total", "retried")
        ),
        (3, 4)
    );
}

#[test]
fn nothing_is_committed_that_was_not_delivered() {
    let mut rig = rig("webhook.w", &alerts(&["a1", "a2"]), |number, _| {
        if number == 0 { answer(200) } else { lost() }
    });
    let stop = rig.worker.stop.clone();
    let seen = rig.seen.clone();
    rig.worker.parts.transport = Box::new(FakeTransport {
        answer: move |number: usize, _: &HttpRequest| {
            if number == 5 {
                stop.store(true, Ordering::Relaxed);
            }
            if number == 0 { answer(200) } else { lost() }
        },
        clock: rig.clock.clone(),
        seen,
    });
    assert!(rig.worker.run().is_ok(), "a stop is no error");
    assert_eq!(rig.committed(), 1);
    assert_eq!(rig.letters(), []);
}

#[test]
fn retry_after_is_waited_for() {
    let mut rig = rig("webhook.w", &alerts(&["a1"]), |number, _| {
        let wait = Some(Duration::from_secs(77));
        match number {
            0 => Ok(HttpAnswer {
                status: 429,
                retry_after: wait,
                ..HttpAnswer::default()
            }),
            _ => answer(200),
        }
    });
    rig.until(1);
    let times: Vec<u64> = rig.requests().iter().map(|(at, _)| at.as_secs()).collect();
    assert!(times[1] - times[0] == 77, "{times:?}");
}

#[test]
fn what_is_refused_for_good_becomes_a_dead_letter_with_its_bytes_and_the_others_go_on() {
    let values = alerts(&["a1", "a2", "a3"]);
    let bytes = values[1].1.to_string().into_bytes();
    let mut rig = rig("webhook.w", &values, |_, request| {
        let is_second = request.header("idempotency-key") == Some("a2");
        let body = if is_second {
            b"no such field".to_vec()
        } else {
            vec![]
        };
        Ok(HttpAnswer {
            status: if is_second { 422 } else { 200 },
            body,
            retry_after: None,
        })
    });
    rig.seen.lock().unwrap().failing_letters = 2;
    rig.until(3);
    let letters = rig.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].sink, "webhook.w");
    assert_eq!(letters[0].reason, "HTTP 422: no such field");
    assert_eq!(
        (letters[0].record.offset, letters[0].record.value.clone()),
        (1, Some(bytes))
    );
    assert_eq!(rig.keys(), ["a1", "a2", "a3"]);
    assert_eq!(rig.count("records_total", "dead_lettered"), 1);
    assert_eq!(rig.count("requests_total", "refused"), 1);
}

#[test]
fn bytes_that_are_no_record_are_buried_and_a_missing_schema_is_waited_for() {
    let values = vec![(0, json!("no object")), (0, alert("a1", "A"))];
    let mut first = rig("webhook.w", &values, |_, _| answer(200));
    first.until(2);
    assert_eq!(first.letters()[0].reason, "no record");
    assert_eq!(first.keys(), ["a1"]);

    let mut second = rig("webhook.w", &alerts(&["a1"]), |_, _| answer(200));
    second.worker.parts.reader = Box::new(LaterReader(5.into()));
    second.until(1);
    assert_eq!(
        (second.letters(), second.keys()),
        (vec![], vec!["a1".to_owned()])
    );
}

#[test]
fn a_batch_that_is_refused_as_a_whole_loses_the_record_at_fault_only() {
    let entities = ["A", "B", "C", "bad", "E", "F", "G"];
    let scores: Vec<(i64, Json)> = entities.iter().map(|entity| score(entity, 1.0)).collect();
    let mut rig = rig("salesforce.f", &scores, |_, request| {
        let keys = upserted(request);
        if keys.iter().any(|key| key == "bad") {
            answer(400)
        } else {
            results(&vec![None; keys.len()])
        }
    });
    rig.until(7);
    let letters = rig.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].record.offset, 3);
    assert_eq!(rig.count("records_total", "delivered"), 6);
}

#[test]
fn of_a_batch_only_what_failed_is_sent_again() {
    let scores = [
        score("A", 1.0),
        score("B", 2.0),
        score("A", 3.0),
        score("C", 4.0),
    ];
    let mut rig = rig("salesforce.f", &scores, |number, _| match number {
        0 => results(&[
            Some("UNABLE_TO_LOCK_ROW"),
            None,
            Some("FIELD_INTEGRITY_EXCEPTION"),
        ]),
        _ => results(&[None]),
    });
    rig.until(4);
    let sent: Vec<Vec<String>> = rig
        .requests()
        .iter()
        .map(|(_, request)| upserted(request))
        .collect();
    assert_eq!(sent, [vec!["B", "A", "C"], vec!["B"]]);
    let letters = rig.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "FIELD_INTEGRITY_EXCEPTION: m");
    let outcomes =
        ["delivered", "superseded", "dead_lettered"].map(|it| rig.count("records_total", it));
    assert_eq!(outcomes, [2, 1, 1]);
}

#[test]
fn an_expired_token_is_replaced_at_once_and_a_refused_one_is_waited_with() {
    let mut rig = rig(
        "salesforce.f",
        &[score("A", 1.0)],
        |number, _| match number {
            0..=2 => answer(401),
            _ => results(&[None]),
        },
    );
    rig.until(1);
    let requests = rig.requests();
    let tokens: Vec<&str> = requests
        .iter()
        .filter_map(|(_, request)| request.header("authorization"))
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer token-1",
            "Bearer token-2",
            "Bearer token-2",
            "Bearer token-3"
        ]
    );
    assert!(
        requests[1].0 < Duration::from_secs(1),
        "a new token is not waited for"
    );
    assert!(
        requests[2].0 >= Duration::from_secs(1),
        "a second 401 is waited with"
    );
    assert_eq!(rig.letters(), []);
}

#[test]
fn a_token_is_used_until_shortly_before_its_end() {
    let scores: Vec<(i64, Json)> = [0, 100, 269, 271]
        .map(|second| (second, score(&second.to_string(), 1.0).1))
        .to_vec();
    let mut rig = rig("salesforce.f", &scores, |_, _| results(&[None]));
    rig.until(4);
    let requests = rig.requests();
    let tokens: Vec<&str> = requests
        .iter()
        .filter_map(|(_, request)| request.header("authorization"))
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer token-1",
            "Bearer token-1",
            "Bearer token-1",
            "Bearer token-2"
        ]
    );
}

#[test]
fn alerts_of_a_minute_are_one_message_a_person_and_messages_keep_the_rate() {
    let for_person = |second, id: &str, owner: &str| {
        let mut alert = alert(id, id);
        alert["owner_id"] = owner.into();
        (second, alert)
    };
    let values = [
        for_person(0, "a1", "ann"),
        for_person(30, "a2", "bob"),
        for_person(59, "a3", "ann"),
        for_person(100, "a4", "ann"),
    ];
    let mut rig = rig("slack.s", &values, |_, _| answer(200));
    rig.until(4);
    let ids = |body: &Json| -> Vec<String> {
        let blocks = body["blocks"].as_array().unwrap().iter();
        blocks
            .filter_map(|block| block["block_id"].as_str().map(str::to_owned))
            .collect()
    };
    let messages: Vec<Vec<String>> = rig.bodies().iter().map(ids).collect();
    assert_eq!(messages, [vec!["a1", "a3"], vec!["a2"], vec!["a4"]]);
    let times: Vec<Duration> = rig.requests().iter().map(|(at, _)| *at).collect();
    assert!(times[0] >= Duration::from_secs(60), "{times:?}");
    assert!(
        times[1] - times[0] >= Duration::from_millis(999),
        "{times:?}"
    );
}

#[test]
fn a_sink_that_waits_has_one_batch_in_memory() {
    let ids: Vec<String> = (0..1_000).map(|id| format!("a{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut rig = rig("webhook.w", &alerts(&ids), |number, _| {
        if number % 7 == 3 {
            answer(500)
        } else {
            answer(204)
        }
    });
    rig.until(1_000);
    let most_open = rig.seen.lock().unwrap().most_open;
    assert!(
        most_open <= super::super::spec::WEBHOOK_RECORDS as i64,
        "{most_open}"
    );
    let mut delivered = rig.keys();
    delivered.dedup();
    assert_eq!(delivered, ids, "in order");
}

#[test]
fn metrics_of_a_sink_exist_before_its_first_record() {
    let rig = rig("hubspot.h", &[], |_, _| answer(200));
    for outcome in ["delivered", "passed_over", "superseded", "dead_lettered"] {
        assert_eq!(rig.count("records_total", outcome), 0);
    }
    for outcome in ["accepted", "refused", "retried"] {
        assert_eq!(rig.count("requests_total", outcome), 0);
    }
    assert_eq!(rig.count("waiting", "hubspot.h"), 0);
}
