//! Acts of people in the console: questions about rows that never came, and operations.

use serde_json::json;

use crate::browser::{Browser, DESK};
use crate::local;
use crate::words::SOFTWARE;
use crate::world::World;

/// Clicks the first button with a text.
fn press(browser: &mut Browser, text: &str) {
    let button = format!(
        "[...document.querySelectorAll('button')].find((one) => one.textContent === {})",
        json!(text)
    );
    browser.wait_for(&format!("{button} !== undefined"));
    browser.evaluate(&format!("{button}.click()"));
}

#[test]
fn an_operation_is_asked_about_before_it_is_sent() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(DESK);
    browser.open(&world.address("alerts"));
    browser.wait_for("document.querySelectorAll('.alert details').length > 0");
    browser.evaluate(
        "window.sent = []; const real = fetch; window.fetch = (path, request) => { \
         if (request?.method === 'POST') sent.push([path, request.body]); return real(path, request); }",
    );
    browser.evaluate("document.querySelector('.alert details').open = true");
    press(&mut browser, "Of use");
    browser.wait_for("document.querySelector('dialog[open]') !== null");
    press(&mut browser, "Cancel");
    browser.wait_for("document.querySelector('dialog') === null");
    assert_eq!(browser.evaluate("sent.length"), 0, "nothing is sent");
    press(&mut browser, "Of use");
    browser.wait_for("document.querySelector('dialog[open]') !== null");
    browser.evaluate("document.querySelector('dialog button.main').click()");
    browser.wait_for("document.body.innerText.includes('Sent to scoring.feedback.v1')");
    let sent = browser.evaluate("sent[0][0] + ' ' + JSON.parse(sent[0][1]).verdict");
    assert_eq!(sent, "api/v1/feedback/answer accepted");

    browser.open(&world.address("model"));
    press(&mut browser, "Promote");
    browser.wait_for("document.querySelector('dialog[open]') !== null");
    browser.evaluate("document.querySelector('dialog button.main').click()");
    browser.wait_for("document.body.innerText.includes('b01d44e7 is the champion')");
    press(&mut browser, "Roll back");
    browser.wait_for("document.querySelector('dialog[open]') !== null");
    browser.evaluate("document.querySelector('dialog button.main').click()");
    browser.wait_for(
        "document.querySelector('[role=alert]')?.innerText.includes('no champion before')",
    );

    browser.open(&world.address("dead-letters"));
    browser.wait_for("document.querySelectorAll('.alert details').length > 0");
    browser.evaluate("document.querySelector('.alert details').open = true");
    press(&mut browser, "Decide again");
    browser.wait_for("document.querySelector('dialog[open]') !== null");
    browser.evaluate("document.querySelector('dialog button.main').click()");
    browser.wait_for("document.body.innerText.includes('1 of 2 records would be used now')");
}

#[test]
fn rows_that_never_came_are_asked_about_in_a_form() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(DESK);
    browser.open(&world.address("pipeline"));
    let field = |name: &str, kind: &str, values: &[&str], refers_to: Option<&str>| {
        json!({
            "name": name, "type": kind, "nullable": true, "values": values,
            "refers_to": refers_to, "is_owner": refers_to.is_some(),
        })
    };
    let tables = json!({"tables": [
        {"name": "water_wells", "role": "root", "key": "well_no", "time": null, "fields": [
            field("well_no", "text", &[], None), field("depth_m", "double", &[], None),
        ]},
        {"name": "level_readings", "role": "event", "key": "id", "time": "read_at", "fields": [
            field("id", "text", &[], None), field("read_at", "time", &[], None),
            field("well", "text", &[], Some("water_wells")),
            field("level", "text", &["below_pump", "full"], None),
        ]},
        {"name": "crews", "role": "staff", "key": "id", "time": null, "fields": []},
    ]});
    let score = |as_of: i64, probability: f64, band: Option<&str>| json!({"as_of": as_of, "logit": 0.0, "probability": probability, "band": band, "absent": null});
    let answer = json!({
        "task": "runs-dry", "entity_type": "water_wells", "entity_id": "W-1", "quality": "sound",
        "now": score(1_760_000_000_000, 0.12, None),
        "then": score(1_760_086_400_000, 0.31, Some("hot")),
        "groups": [{"group": "depth", "label": "Depth", "now": 0.1, "then": 1.1},
                   {"group": "rain", "label": "Rainfall", "now": 0.2, "then": -0.1}],
        "crossings": [{"band": "hot", "is_entered": true, "threshold": 0.3}],
    });
    browser.evaluate(&format!(
        "window.sent = []; window.fetch = async (path, request) => {{ \
           if (request?.method === 'POST') sent.push([path, JSON.parse(request.body)]); \
           const found = path.includes('what-if') ? {answer} : {tables}; \
           return new Response(JSON.stringify(found)); }}; \
         import('./lib/what_if.js').then(async ({{whatIfPanel}}) => \
           document.querySelector('main').replaceChildren(await whatIfPanel(() => \
             ({{table: 'water_wells', id: 'W-1', task: 'runs-dry', members: []}}))))"
    ));
    browser.wait_for("document.querySelector('form.what-if') !== null");
    let options = "[...document.querySelectorAll('form.what-if select')[0].options].map((one) => one.textContent).join('; ')";
    assert_eq!(
        browser.evaluate(options),
        "Change of water wells; New row of level readings"
    );
    press(&mut browser, "Add the row");
    let row = "document.querySelector('.tried-rows').innerText";
    let row = browser.evaluate(row);
    let row = row.as_str().unwrap();
    assert!(
        row.contains("Level reading: well W-1") && row.contains("level below_pump"),
        "{row}"
    );
    press(&mut browser, "What if?");
    browser.wait_for("document.body.innerText.includes('it would be 31.0 %')");
    let text = browser.evaluate("document.querySelector('main').innerText");
    let text = text.as_str().unwrap();
    for words in [
        "Model: sound",
        "Now 12.0 %, about 1 in 8",
        "about 1 in 3 (hot)",
        "It would enter hot, at 30 %.",
        "Would raise it",
        "Depth",
        "Would lower it",
        "Rainfall",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    for foreign in ["account", "contact", "lead"] {
        assert!(!text.contains(foreign), "{foreign} stands in\n{text}");
    }
    let sent = browser.evaluate("JSON.stringify(sent)");
    let sent: serde_json::Value = serde_json::from_str(sent.as_str().unwrap()).unwrap();
    assert_eq!(sent[0][0], "api/v1/water_wells/W-1/what-if?task=runs-dry");
    let row = &sent[0][1]["rows"][0];
    assert_eq!(
        (
            &row["table"],
            &row["fields"]["well"],
            &row["fields"]["level"]
        ),
        (
            &json!("level_readings"),
            &json!("W-1"),
            &json!("below_pump")
        )
    );
}
