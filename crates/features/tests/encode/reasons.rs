//! Evidence, facts and columns in scenes of a few rows.

use std::collections::BTreeSet;

use leadpulse_features::{PeerEnds, RelatedEntity, TouchedHub};
use leadpulse_graph::Tracking;
use leadpulse_schema::Value;
use leadpulse_schema::units::{AsOf, DAY_MS};

use crate::scene::{NOW_MS, Scene, acme};

/// Compares page by page, so that a failure shows the whole page.
fn check(found: &str, expected: &str) {
    let trimmed = |text: &str| {
        text.trim()
            .lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(
        trimmed(found) == trimmed(expected),
        "found\n{found}\nexpected\n{expected}"
    );
}

const ACME: &str = "\
committee: 2 contacts: IC + VP
  2 contacts active in 14 days
  2 departments: Engineering, Finance
  highest seniority VP
content: case study + blog + ebook
  case study, last 12 days ago
  blog, last 26 days ago
  ebook, last 40 days ago
  views about 3 times the 90-day habit
  [views-12 views-11 views-10]
engagement: email open
  email open ×2, last 2 days ago
  activities on 2 of the last 14 days
  3 activities in all, last 2 days ago
  contacts: engagement score 92, 85
  [activities-18 activities-19]
firmographics: employee count 12,000, region North America
  employee count 12,000
  region North America
high_intent: demo request + pricing
  demo request, last 2 days ago
  pricing ×2, last 5 days ago
  [activities-17 views-16 views-15]
history: created 400 days ago
  created 400 days ago
  leads: status 1 × MQL
industry_peers: about 2 Closed Won among 3 other accounts
  industries Finance: about 2 Closed Won among 3 other accounts in 90 days
  industry Finance
opportunities: Negotiation, amount 120,000
  1 opportunity open: Negotiation, amount 120,000
  Closed Lost once, last 240 days ago
  Negotiation, last 8 days ago
  Discovery, last 9 days ago
  [stage_changes-14 stage_changes-13 stage_changes-9 stage_changes-8]
order: blog → case study → pricing → demo request
  blog → case study → pricing → demo request in 24 days, by 3 of them
  [activities-17 views-16 views-15 views-12 views-11 views-10]
profile: contacts: department 1 × Engineering, 1 × Finance, 1 × Sales
  contacts: department 1 × Engineering, 1 × Finance, 1 × Sales
  contacts: seniority 1 × C-Level, 1 × IC, 1 × VP
  leads: seniority 1 × C-Level
relations: 1 contact previously at a customer: Globex, 1 lead: referred by account peer1, a customer
  1 contact previously at a customer: Globex
  1 lead: referred by account peer1, a customer
  invited contact in activities, last 3 days ago
season: November
  November
technology: -
";

const LEAD: &str = "\
committee: 2 contacts: IC + VP
  2 contacts active in 14 days
  2 departments: Engineering, Finance
  highest seniority VP
content: blog
  silent for 26 days
  blog, last 26 days ago
  1 view in all, last 26 days ago
  [views-11]
engagement: email open
  others: email open ×2, last 2 days ago
  others: activities on 2 of the last 14 days
  others: 3 activities in all, last 2 days ago
  [activities-18 activities-19]
firmographics: employee count 12,000
  employee count 12,000
  region North America
high_intent: demo request
  others: demo request, last 2 days ago
  [activities-17]
history: status MQL
  status MQL
  created 400 days ago
industry_peers: about 2 Closed Won among 3 other accounts
  industries Finance: about 2 Closed Won among 3 other accounts in 90 days
  industry Finance
opportunities: Negotiation, amount 120,000
  1 opportunity open: Negotiation, amount 120,000
  Closed Lost once, last 240 days ago
  others: Negotiation, last 8 days ago
  others: Discovery, last 9 days ago
  [stage_changes-14 stage_changes-13 stage_changes-9 stage_changes-8]
order: together: blog → case study → pricing → demo request
  together: blog → case study → pricing → demo request in 24 days, by 3 of them
  [activities-17 views-16 views-15 views-12 views-11 views-10]
profile: seniority C-Level
  seniority C-Level
relations: 1 lead: referred by account peer1, a customer
  1 lead: referred by account peer1, a customer
season: November
  November
technology: -
";

const CONTACT: &str = "\
committee: 2 contacts: IC + VP
  2 contacts active in 14 days
  2 departments: Engineering, Finance
  highest seniority VP
content: 1 view in all, last 5 days ago
  1 view in all, last 5 days ago
engagement: email open
  email open ×2, last 2 days ago
  activities on 2 of the last 14 days
  engagement score 92
  3 activities in all, last 2 days ago
  [activities-18 activities-19]
firmographics: employee count 12,000
  employee count 12,000
  region North America
high_intent: demo request + pricing
  demo request, last 2 days ago
  pricing, last 5 days ago
  [activities-17 views-16]
history: created 400 days ago
  created 400 days ago
industry_peers: about 2 Closed Won among 3 other accounts
  industries Finance: about 2 Closed Won among 3 other accounts in 90 days
  industry Finance
opportunities: Negotiation, amount 120,000
  1 opportunity open: Negotiation, amount 120,000
  Closed Lost once, last 240 days ago
  others: Negotiation, last 8 days ago
  others: Discovery, last 9 days ago
  [stage_changes-14 stage_changes-13 stage_changes-9 stage_changes-8]
order: pricing → demo request
  pricing → demo request in 3 days
  together: blog → case study → pricing → demo request in 24 days, by 3 of them
  [activities-17 views-16 views-15 views-12 views-11 views-10]
profile: department Engineering, seniority VP
  department Engineering
  seniority VP
relations: 1 contact previously at a customer: Globex
  1 contact previously at a customer: Globex
season: November
  November
technology: -
";

#[test]
fn evidence_of_an_account() {
    check(&acme().page("accounts", "acme"), ACME);
}

#[test]
fn evidence_of_a_lead_and_of_a_contact() {
    let scene = acme();
    check(&scene.page("leads", "lead1"), LEAD);
    check(&scene.page("contacts", "ann"), CONTACT);
}

#[test]
fn hubs_of_an_account_come_with_what_came_of_the_others() {
    let scene = acme();
    let as_of = AsOf::from_ms(NOW_MS);
    let touched = |key: &str, most: usize| {
        let (at, _) = scene.find("accounts", key);
        TouchedHub::of(&scene.graph, at, as_of, most)
    };
    let won = |count: u32| PeerEnds {
        name: "Closed Won".into(),
        count,
        days: 90,
    };
    let found = touched("acme", 8);
    let finance = found.iter().find(|one| one.hub == "industries").unwrap();
    assert_eq!((&*finance.key, &*finance.name), ("Finance", "Finance"));
    assert_eq!((finance.others, &finance.ends), (3, &Some(won(2))));
    assert_eq!(finance.touches, 1.0);
    assert!(found.is_sorted_by(|one, other| one.touches >= other.touches));
    assert_eq!(touched("acme", 0), []);

    // An own win is not one of the others.
    let mut scene = Scene::new(Tracking::Off);
    for account in ["a", "b"] {
        scene.account(account, 300.0, &[("industry", Value::Text("Finance"))]);
    }
    let stages = [(20.0, "Discovery"), (10.0, "Closed Won")];
    scene.deal("won", "a", &stages).now();
    for (account, ends) in [("a", None), ("b", Some(won(1)))] {
        let (at, _) = scene.find("accounts", account);
        let found = TouchedHub::of(&scene.graph, at, as_of, 8);
        assert_eq!((found[0].others, &found[0].ends), (1, &ends), "{account}");
    }
}

#[test]
fn ties_of_an_account_are_told_from_both_ends() {
    let scene = acme();
    let tied = |key: &str, most: usize| {
        let (at, _) = scene.find("accounts", key);
        RelatedEntity::of(&scene.graph, at, AsOf::from_ms(NOW_MS), most)
    };
    let told = |ties: &[RelatedEntity]| -> Vec<String> {
        let ends = |one: &RelatedEntity| {
            let (own, other) = (&one.own, &one.other);
            format!(
                "{} {} {} {} of {:?}, customer {}, {:?} days",
                own.table,
                own.name,
                one.relation,
                other.name,
                one.other_root,
                one.is_customer,
                one.since_ms.map(|since| (NOW_MS - since) / DAY_MS),
            )
        };
        ties.iter().map(ends).collect()
    };
    let of_acme = tied("acme", 8);
    assert_eq!(
        told(&of_acme),
        [
            r#"leads lead1 referred by account peer1 of Some("peer1"), customer true, Some(50) days"#,
            r#"contacts ann previously at Globex of Some("globex"), customer true, Some(60) days"#,
        ]
    );
    let of_globex = tied("globex", 8);
    assert_eq!(
        told(&of_globex),
        [r#"accounts Globex previously here ann of Some("acme"), customer false, None days"#]
    );
    let of_peer = tied("peer1", 8);
    assert_eq!(
        told(&of_peer),
        [
            r#"accounts peer1 names this as referred by account lead1 of Some("acme"), customer false, None days"#
        ]
    );
    assert_eq!(tied("acme", 1), of_acme[..1]);
}

#[test]
fn an_unknown_account_has_no_evidence() {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("new", 1.0, &[]).now();
    for (group, evidence) in scene.evidence("accounts", "new") {
        assert!(
            group == "season" || evidence == leadpulse_features::Evidence::default(),
            "{group}: {evidence:?}"
        );
    }
}

#[test]
fn addresses_are_never_told() {
    let scene = acme();
    for (table, key) in [
        ("accounts", "acme"),
        ("leads", "lead1"),
        ("leads", "cleo@mail.example"),
        ("contacts", "ann"),
    ] {
        let page = scene.page(table, key);
        assert!(!page.contains('@'), "{page}");
    }
}

#[test]
fn evidence_names_silence() {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]).contact("c", "a", 99.0, &[]);
    scene
        .activity("c", 60.0, "email_open")
        .activity("c", 21.0, "email_open")
        .now();
    let evidence = scene.evidence("accounts", "a");
    assert_eq!(evidence["engagement"].words[0], "silent for 21 days");
    assert_eq!(
        evidence["committee"].words,
        ["none of 1 contact was active in 14 days"]
    );
}

#[test]
fn facts_of_an_account() {
    let facts = acme().facts("acme");
    assert_eq!(
        (facts.root.as_deref(), facts.name.as_deref()),
        (Some("acme"), Some("Acme"))
    );
    assert_eq!(facts.committee.active, 2);
    assert_eq!(facts.committee.by_field["seniority"], ["IC", "VP"]);
    assert_eq!(
        facts.committee.by_field["department"],
        ["Engineering", "Finance"]
    );
    assert_eq!(
        facts.committee.highest,
        [("seniority".to_owned(), "VP".to_owned())].into()
    );
    assert_eq!(
        facts
            .committee
            .members
            .iter()
            .map(|m| (m.key.as_str(), m.active_days))
            .collect::<Vec<_>>(),
        [("ann", 3), ("bob", 2)]
    );
    assert_eq!(
        facts
            .open
            .iter()
            .map(|o| (o.table.as_str(), o.key.as_str()))
            .collect::<Vec<_>>(),
        [("opportunities", "open")]
    );
    assert_eq!(
        (
            facts.open[0].values["stage"].as_str(),
            facts.open[0].values["amount"].as_str()
        ),
        ("Negotiation", "120000")
    );
    assert!(!facts.open[0].values.contains_key("account_id"));
    assert!(facts.events.is_sorted_by(|a, b| a.time_ms >= b.time_ms));
    assert_eq!(
        (
            facts.events.len(),
            facts.events[0].kind.as_str(),
            facts.events[0].owner.as_str()
        ),
        (8, "demo_request", "ann")
    );
}

/// The columns of an account whose colleagues had these events, some days ago.
fn after(steps: &[(&str, f64, &str)]) -> std::collections::BTreeMap<String, f32> {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 200.0, &[]);
    steps
        .iter()
        .map(|(who, ..)| *who)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .for_each(|who| {
            scene.contact(who, "a", 199.0, &[]);
        });
    let mut steps = steps.to_vec();
    steps.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (who, days_ago, what) in steps {
        if what == "demo_request" {
            scene.activity(who, days_ago, what)
        } else {
            scene.view(who, days_ago, what)
        };
    }
    scene.now();
    scene.root("a")
}

#[test]
fn the_order_of_steps_across_tables_and_colleagues_counts() {
    let path = ["blog", "case_study", "pricing", "demo_request"];
    let who = ["x", "y", "z", "x"];
    let at = |days: [f64; 4]| after(&[0, 1, 2, 3].map(|i| (who[i], days[i], path[i])));
    let (forward, reverse) = (at([24.0, 16.0, 8.0, 1.0]), at([1.0, 8.0, 16.0, 24.0]));
    let read = |columns: &std::collections::BTreeMap<String, f32>| {
        ["ascending", "descending", "balance", "deepest"]
            .map(|what| columns[&format!("cell/order/{what}")])
    };
    assert_eq!(read(&forward), [1.0, 0.25, 0.6, 1.0]);
    assert_eq!(read(&reverse), [0.25, 1.0, -0.6, 1.0]);
    assert!(forward["cell/order/up_recency"] > 0.8);
    assert_eq!(reverse["cell/order/up_recency"], 0.0);
    // All steps are older than the window.
    assert_eq!(read(&at([190.0, 160.0, 140.0, 120.0])), [0.0; 4]);
}

#[test]
fn a_member_has_columns_for_the_order_of_its_own_steps() {
    let mut scene = Scene::new(Tracking::Off);
    scene
        .account("a", 100.0, &[])
        .contact("c", "a", 99.0, &[])
        .contact("d", "a", 99.0, &[]);
    scene
        .view("c", 30.0, "blog")
        .activity("d", 25.0, "demo_request")
        .view("d", 21.0, "blog");
    scene
        .view("c", 20.0, "pricing")
        .activity("c", 5.0, "demo_request")
        .now();
    let (c, d) = (
        scene.member("contacts", "c").unwrap(),
        scene.member("contacts", "d").unwrap(),
    );
    assert_eq!(c["contacts/order/ascending"], 0.75);
    assert_eq!(d["contacts/order/ascending"], 0.25);
    assert!(c["contacts/order/up_recency"] > 0.0);
    assert_eq!(d["contacts/order/up_recency"], 0.0, "nothing came before");
}

/// The log of the recent count of activities over the habitual one.
fn recent_rate(row: &std::collections::BTreeMap<String, f32>) -> f32 {
    let count = |half: &str| row[&format!("activities/{half}/sum")].exp_m1() + 0.1;
    (count("2d") / count("90d")).ln()
}

#[test]
fn acceleration_compares_with_the_habit() {
    let accelerated = |days: &[f64]| {
        let mut scene = Scene::new(Tracking::Off);
        scene.account("a", 200.0, &[]).contact("c", "a", 199.0, &[]);
        days.iter().for_each(|days_ago| {
            scene.activity("c", *days_ago, "email_open");
        });
        scene.now();
        (
            recent_rate(&scene.member("contacts", "c").unwrap()),
            scene.evidence("accounts", "a")["engagement"]
                .words
                .join("; "),
        )
    };
    let weekly: Vec<f64> = (0..25)
        .rev()
        .map(|week| f64::from(week) * 7.0 + 0.5)
        .collect();
    let (steady, _) = accelerated(&weekly);
    let mut surge = weekly.clone();
    surge.extend([0.4, 0.3, 0.2, 0.1]);
    let (faster, told) = accelerated(&surge);
    assert!(
        told.contains("activities about ") && told.contains(" times the 90-day habit"),
        "{told}"
    );
    let (slower, told) = accelerated(&weekly[..22]);
    assert!(told.contains("silent for 21 days"), "{told}");
    assert!(
        slower < -1.0 && steady > slower && faster > steady + 1.0,
        "{slower} {steady} {faster}"
    );
    assert_eq!(accelerated(&[]).0, 0.0);
}

#[test]
fn an_ordinal_has_a_rank_and_the_committee_its_highest() {
    let scene = acme();
    assert_eq!(
        scene.member("contacts", "ann").unwrap()["contacts.seniority/rank"],
        2.0 / 3.0
    );
    assert_eq!(
        scene.member("contacts", "bob").unwrap()["contacts.seniority/rank"],
        0.0
    );
    let root = scene.root("acme");
    // "old" is C-Level, and long silent.
    assert_eq!(root["contacts/active/14d/highest seniority"], 0.75);
    assert_eq!(root["contacts/active/45d/highest seniority"], 1.0);
    assert_eq!(root["contacts/active/14d/distinct department"], 2.0);
}

/// A lead and the contact that it became are one person, in numbers and in words. The lead's row
/// keeps only its fields.
#[test]
fn a_converted_lead_and_its_contact_are_one_person() {
    let text = Value::Text;
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]);
    scene.row(
        "leads",
        99.0,
        &[
            ("lead_id", text("l")),
            ("account_id", text("a")),
            ("status", text("MQL")),
            ("seniority", text("VP")),
        ],
    );
    scene
        .event("views", 5.0, &[("lead_id", "l"), ("content", "pricing")])
        .now();
    let (count_of_one, none) = (2.0_f32.ln(), 0.0);
    let before = scene.root("a");
    assert_eq!(
        [before["leads/active/14d"], before["contacts/active/14d"]],
        [count_of_one, none]
    );
    let mut scene_before = scene.member("leads", "l").unwrap();
    assert!(
        scene_before
            .remove("views.content=pricing/90d/sum")
            .unwrap()
            > 0.0
    );

    scene.contact("c", "a", 3.0, &[("seniority", text("C-Level"))]);
    scene.row(
        "leads",
        2.0,
        &[
            ("lead_id", text("l")),
            ("account_id", text("a")),
            ("status", text("MQL")),
            ("converted_contact_id", text("c")),
        ],
    );
    scene.now();
    let after = scene.root("a");
    assert_eq!(
        [after["leads/active/14d"], after["contacts/active/14d"]],
        [none, count_of_one]
    );
    assert_eq!(
        [after["leads/known"], after["contacts/known"]],
        [none, count_of_one]
    );
    assert_eq!(scene.facts("a").committee.active, 1);
    assert_eq!(
        scene.facts("a").committee.by_field["seniority"],
        ["C-Level"]
    );
    let lead = scene.member("leads", "l").unwrap();
    assert_eq!(
        [
            lead["leads.status=MQL"],
            lead["views.content=pricing/90d/sum"]
        ],
        [1.0, 0.0]
    );
    assert!(scene.member("contacts", "c").unwrap()["views.content=pricing/90d/sum"] > 0.0);
}

/// A contact entered twice is one person and has one row.
#[test]
fn a_merged_duplicate_has_no_row() {
    let text = Value::Text;
    let mut scene = Scene::new(Tracking::Off);
    scene
        .account("a", 100.0, &[])
        .contact("c", "a", 99.0, &[])
        .contact("twin", "a", 98.0, &[]);
    scene
        .activity("twin", 4.0, "email_open")
        .activity("c", 3.0, "email_open");
    scene
        .contact("twin", "a", 1.0, &[("duplicate_of", text("c"))])
        .now();
    assert!(scene.member("contacts", "twin").is_none());
    let total = scene.member("contacts", "c").unwrap()["activities/total"];
    assert_eq!(total, 3.0_f32.ln(), "the survivor has the events of both");
    assert_eq!(scene.root("a")["contacts/active/14d"], 2.0_f32.ln());
}

#[test]
fn people_who_came_from_a_customer_are_distinguished() {
    let scene = acme();
    let ann = scene.member("contacts", "ann").unwrap();
    let root = scene.root("acme");
    let one = 2.0_f32.ln();
    assert_eq!(
        [
            ann["contacts/contacts/previous/edges"],
            ann["contacts/contacts/previous/customers"]
        ],
        [one, one]
    );
    assert_eq!(
        [
            root["cell/contacts/previous/edges"],
            root["cell/contacts/previous/customers"]
        ],
        [one, one]
    );
    assert!(
        root["cell/contacts/previous/newest"] > 0.5,
        "she came 60 days ago"
    );
    assert_eq!(scene.root("globex")["cell/contacts/previous/incoming"], one);
    assert_eq!(
        scene.root("peer1")["cell/leads.referred_by_account_id/incoming"],
        one
    );
    assert_eq!(
        scene.member("contacts", "bob").unwrap()["contacts/contacts/previous/edges"],
        0.0
    );
    assert!(
        scene.member("contacts", "bob").unwrap()["contacts/activities.invited_contact_id/weight"]
            > 0.5
    );
    assert_eq!(root["cell/activities.invited_contact_id/count"], one);
}

#[test]
fn ended_and_open_deals_are_counted() {
    let scene = acme();
    let (acme, globex) = (scene.root("acme"), scene.root("globex"));
    let one = 2.0_f32.ln();
    assert_eq!(
        ["won", "lost", "open"].map(|what| acme[&format!("outcomes/{what}")]),
        [0.0, one, one]
    );
    assert_eq!(
        ["won", "lost", "open"].map(|what| globex[&format!("outcomes/{what}")]),
        [one, 0.0, 0.0]
    );
    assert!(acme["outcomes/lost_recency"] > 0.0 && acme["outcomes/won_recency"] == 0.0);
}

/// Cells that refer to an account are marked when that account wins.
#[test]
fn a_win_marks_the_cells_that_refer_to_the_account() {
    let text = Value::Text;
    let mut scene = Scene::new(Tracking::On);
    scene
        .account("new", 100.0, &[])
        .account("former", 100.0, &[]);
    scene
        .contact("c", "former", 90.0, &[])
        .contact("c", "new", 80.0, &[("seniority", text("VP"))]);
    for _ in 0..2 {
        scene.now();
        let dirty = scene.graph.take_dirty(usize::MAX);
        dirty
            .iter()
            .for_each(|(at, _)| scene.graph.scored(*at, 0.0));
    }
    assert_eq!(scene.root("new")["cell/contacts/previous/customers"], 0.0);
    scene.deal("d", "former", &[(1.0, "Closed Won")]).now();
    assert_eq!(
        scene.root("new")["cell/contacts/previous/customers"],
        2.0_f32.ln()
    );
    let (new, _) = scene.find("accounts", "new");
    assert!(
        scene
            .graph
            .take_dirty(usize::MAX)
            .iter()
            .any(|(at, _)| *at == new)
    );
}

/// At a hub only the ends of deals have columns per value.
#[test]
fn hubs_have_value_columns_for_outcomes_only() {
    let scene = Scene::new(Tracking::Off);
    let names: Vec<&str> = scene
        .plan
        .layout()
        .root
        .iter()
        .map(|c| c.name.as_str())
        .filter(|n| n.starts_with("industries/"))
        .collect();
    assert!(names.contains(&"industries/stage_changes.to_stage=Closed Won/per cell"));
    assert!(names.contains(&"industries/activities/14d/per cell"));
    for part in ["channel", "content=", "Discovery", "minutes"] {
        assert!(!names.iter().any(|n| n.contains(part)), "{part}: {names:?}");
    }
}

#[test]
fn a_value_can_have_a_group_of_its_own() {
    let scene = Scene::new(Tracking::Off);
    let layout = scene.plan.layout();
    let contacts = layout
        .members
        .iter()
        .find(|m| m.name == "contacts")
        .unwrap();
    let group = |name: &str| {
        let column = contacts
            .columns
            .iter()
            .chain(&layout.root)
            .find(|c| c.name == name)
            .unwrap_or_else(|| panic!("no column {name}"));
        layout.groups[column.group].code.as_str()
    };
    for (column, expected) in [
        ("views.content=pricing/14d/sum", "high_intent"),
        ("views.content=blog/14d/sum", "content"),
        ("activities.type=demo_request/recency", "high_intent"),
        ("activities/overdue", "engagement"),
        ("contacts/order/ascending", "order"),
        ("cell/order/ascending", "order"),
        ("cell/contacts/previous/edges", "relations"),
        ("outcomes/won", "opportunities"),
        ("contacts/active/14d", "committee"),
        ("opportunities/known", "opportunities"),
    ] {
        assert_eq!(group(column), expected, "{column}");
    }
}

/// Three rows of one address are one person: what is empty in one row is read from another.
#[test]
fn rows_of_one_address_are_one_person_in_the_committee() {
    let text = Value::Text;
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]);
    scene.contact("c1", "a", 9.0, &[("email", text("Jo@acme.com"))]);
    let again = [
        ("email", text("jo+events@acme.com")),
        ("department", text("IT")),
    ];
    scene.contact("c2", "a", 8.0, &again);
    let lead = [
        ("lead_id", text("l")),
        ("account_id", text("a")),
        ("email", text("jo@acme.com")),
    ];
    scene.row("leads", 8.0, &lead);
    scene.contact("other", "a", 8.0, &[("email", text("info@acme.com"))]);
    scene.view("c2", 2.0, "blog").now();
    let (one, two) = (2.0_f32.ln(), 3.0_f32.ln());
    let root = scene.root("a");
    assert_eq!(
        [root["contacts/known"], root["leads/known"]],
        [two, 0.0],
        "a shared mailbox is a row of its own"
    );
    assert_eq!(root["contacts/active/14d"], one);
    assert_eq!(root["contacts/active/14d/distinct department"], 1.0);
    assert_eq!(scene.facts("a").committee.active, 1);
    assert!(scene.member("leads", "l").is_some(), "rows stay entities");
}

/// A deal that was won, opened again and lost makes no customer.
#[test]
fn a_win_that_was_taken_back_makes_no_customer() {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]);
    let stages = [
        (90.0, "Negotiation"),
        (80.0, "Closed Won"),
        (70.0, "Negotiation"),
        (60.0, "Closed Lost"),
    ];
    scene.deal("d", "a", &stages).now();
    let (at, _) = scene.find("accounts", "a");
    let outcomes = scene.graph.outcomes(scene.graph.cell(at));
    assert_eq!((outcomes.won, outcomes.lost, outcomes.open), (0, 1, 0));
}
