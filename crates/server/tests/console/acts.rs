//! Acts of people in the console: questions about rows that never came, and operations.

use serde_json::json;

use crate::browser::{Browser, DESK, PHONE};
use crate::local;
use crate::pages::{assert_accessible, take_picture};
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

/// The text of a panel.
fn text_of(panel: &str) -> String {
    format!("document.querySelector('[aria-labelledby=panel-{panel}]').innerText")
}

/// Sets a control of a panel by its label, as somebody would who writes.
fn fill(browser: &mut Browser, panel: &str, label: &str, value: &str) {
    let control = format!(
        "[...document.querySelectorAll('[aria-labelledby=panel-{panel}] label')].find((one) => \
         one.firstChild.textContent.startsWith({})).querySelector('input, select')",
        json!(label)
    );
    browser.wait_for(&format!("{control} !== null"));
    browser.evaluate(&format!("{control}.value = {}", json!(value)));
}

#[test]
fn labels_of_a_query_are_counted_and_a_task_is_judged_on_a_past() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    for window in [DESK, PHONE] {
        browser.resize(window);
        browser.open(&world.address("query"));
        browser.wait_for(&format!(
            "{}.includes('Nothing was asked yet')",
            text_of("labels")
        ));
        fill(&mut browser, "labels", "List the first", "5");
        // By the keyboard: Enter in a field asks.
        browser.evaluate("document.querySelector('[aria-labelledby=panel-labels] input').focus()");
        browser.press("Enter");
        browser.wait_for(&format!("{}.includes('4.3 %')", text_of("labels")));
        let text = browser.evaluate(&text_of("labels"));
        let text = text.as_str().unwrap().to_owned();
        for words in [
            "84 of 1,950",
            "130 with a label, 61 with a positive one",
            "18 (every 30d)",
            "390 pairs",
            "3 of 412 rows that the target counts, such as one of opportunities",
            "9 in 10 windows are empty",
            "The first 5 labels",
            "A0004",
        ] {
            assert!(text.contains(words), "{words} is missing in\n{text}");
        }
        press(&mut browser, "Judge");
        browser.wait_for(&format!("{}.includes('0.781')", text_of("backtest")));
        let text = browser.evaluate(&text_of("backtest"));
        let text = text.as_str().unwrap().to_owned();
        for words in [
            "(0.741 to 0.821)",
            "1,800 rows of 130 entities, 77 with the outcome",
            "Lift by tenths",
            "with true chances it would be 0.9 %",
        ] {
            assert!(text.contains(words), "{words} is missing in\n{text}");
        }
        let sideways = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.evaluate(sideways), false, "{}", window.width);
        assert_accessible(&mut browser, "the query page with answers");
        browser
            .evaluate("document.querySelector('[aria-labelledby=panel-labels]').scrollIntoView()");
        take_picture(&mut browser, "query-past", window);
    }
}

#[test]
fn a_job_on_a_past_is_refused_in_words_and_ends_when_it_is_stopped() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(PHONE);
    browser.open(&world.address("query"));
    fill(&mut browser, "labels", "Anchors", "weekly");
    press(&mut browser, "Count labels");
    browser.wait_for(&format!(
        "{}.includes('is not a rule for anchors')",
        text_of("labels")
    ));
    fill(&mut browser, "labels", "Anchors", "every 7d");
    browser.evaluate("document.querySelector('#pql').value = 'PREDICT COUNT(leeks.*)'");
    press(&mut browser, "Count labels");
    let carets = "[aria-labelledby=panel-labels] .carets";
    browser.wait_for(&format!("document.querySelector('{carets}') !== null"));
    let marked = browser.evaluate(&format!("document.querySelector('{carets}').textContent"));
    assert_eq!(marked, "PREDICT COUNT(leeks.*)\n              ^^^^^");

    // A backtest without an end, until it is stopped; then the next one is answered.
    fill(&mut browser, "backtest", "From", "1999-01-01");
    press(&mut browser, "Judge");
    browser.wait_for(&format!(
        "{}.includes('takes up to minutes')",
        text_of("backtest")
    ));
    assert_accessible(&mut browser, "a job that runs");
    press(&mut browser, "Stop");
    browser.wait_for(&format!("{}.includes('Stopped.')", text_of("backtest")));
    fill(&mut browser, "backtest", "From", "2024-01-01");
    // The server hears a moment later that the client has left.
    browser.wait_for(&format!(
        "({}.includes('0.781') || ([...document.querySelectorAll('button')].find((one) => \
         one.textContent === 'Judge')?.click(), false))",
        text_of("backtest")
    ));
}

#[test]
fn older_scores_are_read_until_there_are_none() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(PHONE);
    browser.open(&world.address("entity?table=accounts&id=A0001"));
    browser.wait_for("document.querySelector('[aria-labelledby=panel-past] figcaption') !== null");
    let points = |browser: &mut Browser| {
        let caption =
            "document.querySelector('[aria-labelledby=panel-past] figcaption').textContent";
        let caption = browser.evaluate(caption);
        let words = caption.as_str().unwrap().to_owned();
        let number = words.split(' ').nth(2).unwrap().parse::<u64>();
        number.unwrap_or_else(|_| panic!("{words}"))
    };
    let before = points(&mut browser);
    // By the keyboard, twice: the button keeps the focus while the chart is drawn anew.
    let button = "[aria-labelledby=panel-past] button";
    browser.evaluate(&format!("document.querySelector('{button}').focus()"));
    browser.press("Enter");
    browser.wait_for(&format!("{}.includes('6 older scores.')", text_of("past")));
    assert_eq!(points(&mut browser), before + 6);
    assert_accessible(&mut browser, "an entity with older scores");
    browser.press("Enter");
    browser.wait_for(&format!(
        "{}.includes('None among 812 records. The topic keeps none from before.')",
        text_of("past")
    ));
    assert_eq!(points(&mut browser), before + 6);
    let is_disabled = browser.evaluate(&format!("document.querySelector('{button}').disabled"));
    assert_eq!(is_disabled, true);
    let heard = browser.evaluate("document.querySelector('#live').textContent");
    assert!(
        heard.as_str().unwrap().contains("None among 812"),
        "{heard}"
    );
}

#[test]
fn hubs_and_ties_are_around_an_entity_with_what_came_of_them() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut world = World::start(&local(), &SOFTWARE);
    browser.resize(DESK);
    browser.open(&world.address("entity?table=accounts&id=A0001"));
    // No engine answers here: the page asks again with the next change, and is answered by this.
    let committee = json!({
        "account_id": "A0001", "as_of": 1, "fields": [], "people": 0, "active": 0, "seats": [],
        "gaps": {}, "members": [],
        "related": [
            {"relation": "previously at", "is_outgoing": true,
             "own": {"table": "contacts", "key": "C7", "name": "Ada"},
             "other": {"table": "accounts", "key": "A0002", "name": "Globex"},
             "other_root": "A0002", "is_customer": true, "since_ms": 86_400_000},
            {"relation": "names this as referred by", "is_outgoing": false,
             "own": {"table": "accounts", "key": "A0001", "name": "Acme"},
             "other": {"table": "leads", "key": "L3", "name": "L3"},
             "other_root": null, "is_customer": false, "since_ms": null},
        ],
        "hubs": [
            {"hub": "industries", "key": "Fintech", "name": "Fintech", "touches": 3.5, "others": 41,
             "ends": {"name": "Closed Won", "count": 6, "days": 90}},
            {"hub": "technologies", "key": "kafka", "name": "kafka", "touches": 1.0, "others": 1, "ends": null},
        ],
    });
    browser.evaluate(&format!(
        "const real = fetch; window.fetch = (path, request) => String(path).includes('/committee') ? \
         Promise.resolve(new Response(JSON.stringify({committee}), {{status: 200}})) : real(path, request); true"
    ));
    world.step(4, 60_000, false);
    browser.wait_for(
        "document.querySelectorAll('[aria-labelledby=panel-around-it] polygon').length === 4",
    );
    let text = browser.evaluate(&text_of("around-it"));
    let text = text.as_str().unwrap().to_owned();
    for words in [
        "Fintech",
        "6 Closed Won",
        "about 6 Closed Won in 90 days",
        "1 other",
        "technologies",
        "Diamond: what it shares with others",
        "contact Ada",
        "previously at",
        "1970-01-02",
        "names this as referred by",
        "Triangle: of other accounts",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    let link =
        "document.querySelector('[aria-labelledby=panel-around-it] table a').getAttribute('href')";
    assert_eq!(browser.evaluate(link), "entity?table=accounts&id=A0002");
    assert_accessible(&mut browser, "an entity with hubs and ties around it");
}
