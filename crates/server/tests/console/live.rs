//! A tab that nobody touches: scores and alerts come by themselves, in few bytes.

use crate::browser::{Browser, DESK, PHONE};
use crate::words::SOFTWARE;
use crate::world::World;
use crate::{local, ranking};

/// Shortest time between two events that the console asks for, seconds.
const EVENT_SECONDS: u64 = 5;
/// Bytes a second that a tab may receive while nobody touches it.
const BYTES_PER_SECOND: u64 = 5_000;

#[test]
fn scores_and_alerts_come_into_an_untouched_tab() {
    let Some((mut browser, mut world)) = ranking() else {
        return;
    };
    let text = "document.querySelector('.rows').innerText";
    let before = browser.evaluate(text);
    world.step(40, 60_000, true);
    browser.wait_for(&format!("{text} !== {before}"));
    browser.wait_for("document.querySelector('.places .count')?.textContent === '1'");
    browser.wait_for("document.querySelector('#live').textContent.includes('new alert')");
    browser.open(&world.address("alerts"));
    let count = "document.querySelectorAll('.alert').length";
    let before = browser.evaluate(count).as_u64().unwrap();
    world.step(5, 60_000, true);
    browser.wait_for(&format!("{count} === {}", before + 1));
    let top = browser.evaluate("document.querySelector('.alert').dataset.id");
    assert!(top.as_str().unwrap().ends_with("-32"), "the newest: {top}");
}

#[test]
fn a_line_grows_on_the_page_of_an_entity() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut world = World::start(&local(), &SOFTWARE);
    browser.resize(DESK);
    browser.open(&world.address("entity?table=accounts&id=A0001"));
    browser.wait_for("document.body.innerText.includes('The last 30 emitted scores')");
    world.step(1, 60_000, false);
    browser.wait_for("document.body.innerText.includes('The last 31 emitted scores')");
}

/// Every entity moves between any two events: the most that a tab can be sent. Events, and the page
/// that is read for the order after each, come once in `EVENT_SECONDS` at most, so bytes are counted
/// by event, and no clock is asked.
#[test]
fn an_untouched_tab_receives_few_bytes_while_scores_move() {
    let Some((mut browser, mut world)) = ranking() else {
        return;
    };
    browser.evaluate(
        "window.changes = 0; window.read = 0; \
         new MutationObserver(() => { window.changes += 1; }).observe(\
         document.querySelector('.page-head .quiet'), {childList: true}); true",
    );
    browser.events.clear();
    let events = 4;
    for _ in 0..events {
        let before = browser.evaluate("window.changes").as_u64().unwrap();
        // One publication is one event, however slow the machine is.
        world.step(crate::world::ENTITIES, 60_000, false);
        browser.wait_for(&format!("window.changes > {before}"));
    }
    let bytes = browser.received_bytes() / events;
    println!("{bytes} bytes an event of {EVENT_SECONDS} s");
    assert!(bytes > 1_000, "events were seen: {bytes} bytes each");
    assert!(
        bytes <= BYTES_PER_SECOND * EVENT_SECONDS,
        "{bytes} bytes an event"
    );
}

#[test]
fn on_a_phone_alerts_are_one_press_away_and_begin_in_the_first_window() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(PHONE);
    browser.open(&world.address(""));
    let link = "document.querySelector('.places a[href=alerts]').getBoundingClientRect().bottom";
    assert!(browser.evaluate(link).as_f64().unwrap() < 844.0);
    browser.evaluate("document.querySelector('.places a[href=alerts]').click()");
    browser.wait_for("document.querySelectorAll('.alert').length > 0");
    let top = "document.querySelector('.alert').getBoundingClientRect().top";
    assert!(browser.evaluate(top).as_f64().unwrap() < 500.0);
}
