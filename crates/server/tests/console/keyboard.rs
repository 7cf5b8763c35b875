//! The console without a mouse.

use serde_json::json;

use crate::ranking;
use crate::world::ENTITIES;

#[test]
fn a_keyboard_reaches_the_list_walks_it_and_opens_an_entity() {
    let Some((mut browser, _world)) = ranking() else {
        return;
    };
    browser.press("Tab");
    let focused = "document.activeElement.textContent";
    assert_eq!(browser.evaluate(focused), "Skip to the content");
    browser.press("Enter");
    assert_eq!(browser.evaluate("document.activeElement.id"), "content");
    for _ in 0..20 {
        if browser.evaluate("document.activeElement.closest('.rows') !== null") == true {
            break;
        }
        browser.press("Tab");
    }
    let place = "Number(document.activeElement.closest('li')?.getAttribute('aria-posinset'))";
    assert_eq!(browser.evaluate(place), 1, "Tab comes to the first row");
    for step in 2..=60 {
        browser.press("ArrowDown");
        browser.wait_for(&format!("{place} === {step}"));
    }
    browser.press("End");
    browser.wait_for(&format!("{place} >= 100"));
    let rows = browser.evaluate("document.querySelectorAll('.rows li').length");
    assert!(
        rows.as_u64().unwrap() < ENTITIES as u64 / 2,
        "only rows near the window are in the document: {rows}"
    );
    let name = browser.evaluate(focused);
    browser.press("Enter");
    browser.wait_for(&format!(
        "document.querySelector('h1')?.textContent === {}",
        json!(name)
    ));
    assert_eq!(browser.evaluate("location.pathname"), "/entity");
}

#[test]
fn a_list_that_is_walked_keeps_its_order_until_it_is_asked() {
    let Some((mut browser, mut world)) = ranking() else {
        return;
    };
    browser.evaluate("document.querySelector('.rows a').focus()");
    let order = "[...document.querySelectorAll('.rows .name a')].map((a) => a.textContent).join()";
    let before = browser.evaluate(order);
    for _ in 0..6 {
        world.step(ENTITIES, 6_000, false);
    }
    let waiting = "document.querySelector('.page-head .waiting').hidden === false";
    browser.wait_for(waiting);
    assert_eq!(browser.evaluate(order), before, "the order stays");
    browser.evaluate("document.querySelector('.page-head .waiting').click()");
    browser.wait_for(&format!("{order} !== {before}"));
}

#[test]
fn a_control_keeps_the_focus_when_its_list_follows_it() {
    let Some((mut browser, _world)) = ranking() else {
        return;
    };
    let label = "document.activeElement.closest('label')?.firstChild.textContent";
    browser.evaluate(
        "[...document.querySelectorAll('label')].find((label) => \
         label.firstChild.textContent === 'Order').querySelector('select').focus()",
    );
    browser.press("ArrowDown");
    browser.wait_for("location.search.includes('sort=velocity')");
    browser.wait_for("document.querySelector('#live').textContent.includes('130 entities')");
    assert_eq!(browser.evaluate(label), "Order");
}
