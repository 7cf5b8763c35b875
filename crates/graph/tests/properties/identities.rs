//! One behaviour at a time: matching, merging, converting, moving, retracting, told as small
//! stories.

use leadpulse_graph::{DAY_MS, Graph, IdentityStats, RowOutcome, Tracking};
use leadpulse_schema::units::AsOf;

use crate::market::{Datum, Market, Plain, START_MS, network};

/// A story on one graph: rows in the order told.
struct Story {
    market: Market,
    graph: Graph,
    t_ms: i64,
}

impl Story {
    fn new() -> Self {
        Self::of(network(true))
    }
    fn of(market: Market) -> Self {
        let graph = market.graph(Tracking::On);
        Self {
            market,
            graph,
            t_ms: START_MS,
        }
    }
    fn row(&self, table: &str, values: &[(&str, &str)]) -> Plain {
        let table = self.market.catalog.table(table).unwrap();
        let t_ms = self.t_ms;
        let values_of = values;
        let mut values = vec![Datum::Null; table.fields.len()];
        for (name, text) in values_of {
            let field = table.field(name).unwrap();
            values[field.id.index()] = match *text {
                "true" => Datum::Bool(true),
                text if field.data_type == leadpulse_schema::DataType::TextList => {
                    Datum::List(text.split(' ').map(str::to_owned).collect())
                }
                text => Datum::Text(text.to_owned()),
            };
        }
        if let Some(time) = table.time {
            values[time.index()] = Datum::Time(t_ms);
        }
        Plain {
            table: table.id,
            delete: false,
            partition: 0,
            time_ms: t_ms,
            known_ms: t_ms,
            values,
        }
    }
    /// Applies a row, a minute after the one before.
    fn tell(&mut self, table: &str, values: &[(&str, &str)]) -> RowOutcome {
        self.t_ms += 60_000;
        let row = self.row(table, values);
        self.apply(&row)
    }
    fn delete(&mut self, table: &str, key: &str) {
        self.t_ms += 60_000;
        let name = self.market.catalog.table(table).unwrap();
        let name = name.field_at(name.key).name.clone();
        let row = Plain {
            delete: true,
            ..self.row(table, &[(&name, key)])
        };
        self.apply(&row);
    }
    fn apply(&mut self, row: &Plain) -> RowOutcome {
        self.graph
            .apply(&self.market.batch(std::slice::from_ref(row)), None)[0]
    }
    /// The key of the cell's anchor.
    fn cell(&self, table: &str, key: &str) -> String {
        let (at, _) = self
            .graph
            .find(self.market.catalog.table(table).unwrap().id, key)
            .unwrap();
        self.graph
            .directory()
            .key(self.graph.cell(at).anchor)
            .to_string()
    }
    fn calls(&self, table: &str, key: &str) -> u64 {
        let catalog = &self.market.catalog;
        let (_, node) = self
            .graph
            .find(catalog.table(table).unwrap().id, key)
            .unwrap();
        let layout = &self.graph.shared().layout;
        node.events[layout.position(node.table, catalog.table("calls").unwrap().id)].total
    }
    fn stats(&self) -> IdentityStats {
        self.graph.identity()
    }
    /// Relation and target of each edge, resolved.
    fn edges(&self, table: &str, key: &str) -> Vec<String> {
        let (_, node) = self
            .graph
            .find(self.market.catalog.table(table).unwrap().id, key)
            .unwrap();
        let name = |e: &leadpulse_graph::Edge| {
            format!(
                "{} {}",
                self.market.catalog.relations[e.relation.index()].name,
                self.graph.directory().key(e.to)
            )
        };
        self.graph.edges(node).iter().map(name).collect()
    }
}

#[test]
fn members_of_a_domain_wait_for_its_root_and_go_when_it_goes() {
    let mut story = Story::new();
    story.tell(
        "leads",
        &[("lead_id", "l"), ("email", "jo@mail.acme.co.uk")],
    );
    story.tell("people", &[("person_id", "p"), ("email", "x@acme.co.uk")]);
    story.tell("people", &[("person_id", "free"), ("email", "x@gmail.com")]);
    assert_eq!(
        (story.cell("leads", "l"), story.cell("people", "p")),
        ("acme.co.uk".into(), "acme.co.uk".into())
    );
    assert_eq!(story.cell("people", "free"), "free");
    assert_eq!(
        (story.stats().provisional, story.stats().unresolved),
        (2, 1)
    );
    story.tell(
        "companies",
        &[
            ("company_id", "acme"),
            ("website", "https://www.ACME.co.uk/home"),
        ],
    );
    assert_eq!(
        (story.cell("leads", "l"), story.cell("people", "p")),
        ("acme".into(), "acme".into())
    );
    assert_eq!(story.stats().by_domain, 2);
    // A second claim with a greater key is counted and changes nothing; with a smaller one it
    // wins.
    story.tell(
        "companies",
        &[("company_id", "bcme"), ("website", "acme.co.uk")],
    );
    assert_eq!(
        (story.cell("people", "p"), story.stats().ambiguous_domains),
        ("acme".into(), 1)
    );
    story.tell(
        "companies",
        &[("company_id", "aaa"), ("website", "acme.co.uk")],
    );
    assert_eq!(story.cell("people", "p"), "aaa");
    let shared = &story.graph.shared_domains()[0];
    assert_eq!((shared.domain.as_str(), shared.members), ("acme.co.uk", 2));
    assert_eq!(
        (shared.roots.join(" "), shared.taken_by.as_str()),
        ("aaa acme bcme".into(), "aaa")
    );
    // An owner wins over any domain, and another address is matched anew.
    story.tell(
        "people",
        &[
            ("person_id", "p"),
            ("email", "x@acme.co.uk"),
            ("company_id", "bcme"),
        ],
    );
    assert_eq!(story.cell("people", "p"), "bcme");
    story.tell("leads", &[("lead_id", "l"), ("email", "jo@initech.io")]);
    assert_eq!(story.cell("leads", "l"), "initech.io");
    for company in ["aaa", "acme"] {
        story.tell("leads", &[("lead_id", "l"), ("email", "jo@acme.co.uk")]);
        story.delete("companies", company);
    }
    assert_eq!(story.cell("leads", "l"), "bcme");
    story.delete("companies", "bcme");
    assert_eq!(
        (story.cell("leads", "l"), story.cell("people", "p")),
        ("acme.co.uk".into(), "bcme".into())
    );
}

#[test]
fn of_several_domains_the_first_that_leads_to_a_root_is_taken() {
    let mut story = Story::new();
    story.tell(
        "people",
        &[
            ("person_id", "p"),
            ("email", "jo@initech.io"),
            ("site", "acme.com"),
        ],
    );
    assert_eq!(story.cell("people", "p"), "initech.io");
    story.tell(
        "companies",
        &[("company_id", "acme"), ("website", "acme.com")],
    );
    assert_eq!(story.cell("people", "p"), "acme");
    story.tell(
        "companies",
        &[("company_id", "initech"), ("website", "https://initech.io")],
    );
    assert_eq!(story.cell("people", "p"), "initech");
    story.delete("companies", "initech");
    assert_eq!(story.cell("people", "p"), "acme");
}

#[test]
fn a_converted_lead_and_its_contact_are_one() {
    let mut story = Story::new();
    story.tell(
        "leads",
        &[("lead_id", "l"), ("company_id", "acme"), ("product", "sku")],
    );
    story.tell("calls", &[("call_id", "1"), ("lead_id", "l")]);
    story.tell("forms", &[("form_id", "2"), ("lead_id", "l")]);
    story.tell(
        "leads",
        &[("lead_id", "l"), ("converted_to", "p"), ("product", "sku")],
    );
    story.tell("people", &[("person_id", "p")]);
    // The contact has no owner of its own yet: nor has the lead's last version.
    assert_eq!(story.cell("people", "p"), "p");
    story.tell(
        "leads",
        &[
            ("lead_id", "l"),
            ("converted_to", "p"),
            ("company_id", "acme"),
            ("product", "sku"),
        ],
    );
    assert_eq!(
        (
            story.cell("people", "p"),
            story.cell("leads", "l"),
            story.stats().by_link
        ),
        ("acme".into(), "acme".into(), 1)
    );
    story.tell("calls", &[("call_id", "3"), ("lead_id", "l")]);
    assert_eq!(
        (story.calls("people", "p"), story.calls("leads", "l")),
        (2, 0)
    );
    let (at, lead) = story
        .graph
        .find(story.market.catalog.table("leads").unwrap().id, "l")
        .unwrap();
    assert!(lead.absorbed && !lead.is_merged() && !lead.hubs.is_empty());
    // Forms cannot hang on people: the lead keeps them.
    assert_eq!(lead.events.iter().map(|e| e.total).sum::<u64>(), 1);
    assert_eq!(
        story
            .graph
            .cell(at)
            .nodes
            .iter()
            .flat_map(|n| n.recent())
            .count(),
        3
    );
    assert_eq!((story.stats().converted, story.stats().merged), (1, 0));
    // The lead's row may go; who they are stays.
    story.delete("leads", "l");
    story.tell("calls", &[("call_id", "4"), ("lead_id", "l")]);
    assert_eq!(
        (story.calls("people", "p"), story.cell("leads", "l")),
        (3, story.cell("people", "p"))
    );
}

#[test]
fn a_merged_root_leaves_its_members_to_the_survivor() {
    let mut story = Story::new();
    story.tell(
        "companies",
        &[
            ("company_id", "old"),
            ("website", "acme.com"),
            ("industry", "v0"),
        ],
    );
    story.tell("people", &[("person_id", "p"), ("company_id", "old")]);
    story.tell("people", &[("person_id", "q"), ("email", "q@acme.com")]);
    story.tell("calls", &[("call_id", "1"), ("company_id", "old")]);
    story.tell("companies", &[("company_id", "new")]);
    story.tell(
        "companies",
        &[
            ("company_id", "old"),
            ("website", "acme.com"),
            ("industry", "v0"),
            ("merged_into", "new"),
        ],
    );
    assert_eq!(
        (story.cell("people", "p"), story.cell("people", "q")),
        ("new".into(), "new".into())
    );
    story.tell("people", &[("person_id", "late"), ("company_id", "old")]);
    story.tell("calls", &[("call_id", "2"), ("company_id", "old")]);
    assert_eq!(
        (
            story.cell("people", "late"),
            story.calls("companies", "new")
        ),
        ("new".into(), 2)
    );
    // Moving from one name of the company to the other is no move.
    story.tell("people", &[("person_id", "p"), ("company_id", "new")]);
    assert_eq!(story.edges("people", "p"), Vec::<String>::new());
    let (at, old) = story
        .graph
        .find(story.market.catalog.root().id, "old")
        .unwrap();
    assert!(old.is_merged() && old.hubs.is_empty() && old.is_known());
    assert!(
        !story
            .graph
            .view(
                story.graph.cell(at),
                old,
                AsOf::from_ms(story.t_ms),
                &story.market.population
            )
            .is_eligible()
    );
    assert_eq!(story.graph.cell(at).hubs().len(), 0);
    // Afterwards it moves on, and the company it left is the survivor.
    story.tell("people", &[("person_id", "p"), ("company_id", "next")]);
    assert_eq!(story.edges("people", "p"), ["people/previous new"]);
    let new = story
        .graph
        .find(story.market.catalog.root().id, "new")
        .unwrap()
        .1
        .entity;
    assert_eq!(story.graph.incoming(new).len(), 1);
}

#[test]
fn former_roots_are_kept_and_bounded() {
    let mut story = Story::new();
    story.tell(
        "people",
        &[
            ("person_id", "p"),
            ("company_id", "c0"),
            ("former_company", "before"),
        ],
    );
    assert_eq!(story.edges("people", "p"), ["people/previous before"]);
    story.delete("people", "p");
    for company in 1..=10 {
        story.tell(
            "people",
            &[("person_id", "p"), ("company_id", &format!("c{company}"))],
        );
    }
    let mut edges = story.edges("people", "p");
    edges.sort_unstable();
    assert_eq!(
        edges,
        (2..10)
            .map(|i| format!("people/previous c{i}"))
            .collect::<Vec<_>>()
    );
    // Back where it was: not a former root any more.
    story.tell("people", &[("person_id", "p"), ("company_id", "c9")]);
    assert!(
        story
            .edges("people", "p")
            .contains(&"people/previous c10".to_owned())
    );
    assert!(
        !story
            .edges("people", "p")
            .contains(&"people/previous c9".to_owned())
    );
}

#[test]
fn a_retraction_takes_its_event_back_once() {
    let mut story = Story::new();
    let call = |id: &'static str| {
        [
            ("call_id", id),
            ("person_id", "p"),
            ("about", "acme umbrella"),
            ("sku", "s"),
            ("kind", "v0"),
        ]
    };
    let back = |id| [&call(id)[..], &[("revoked", "true")]].concat();
    story.tell("calls", &call("1"));
    let second = story.row("calls", &call("2"));
    let undo = story.row("calls", &back("2"));
    assert_eq!(story.apply(&second), RowOutcome::Accepted);
    assert_eq!(story.apply(&undo), RowOutcome::Accepted);
    assert_eq!(story.apply(&undo), RowOutcome::Duplicate);
    assert_eq!(story.apply(&second), RowOutcome::Duplicate);
    assert_eq!(story.calls("people", "p"), 1);
    // Before its event: the event is held off.
    let undo = story.row("calls", &back("3"));
    let third = story.row("calls", &call("3"));
    assert_eq!(
        (story.apply(&undo), story.apply(&third), story.apply(&third)),
        (
            RowOutcome::Accepted,
            RowOutcome::Duplicate,
            RowOutcome::Duplicate
        )
    );
    assert_eq!(
        (story.calls("people", "p"), story.stats().cancelled_events),
        (1, 1)
    );
    let mentioned = story
        .graph
        .find(story.market.catalog.root().id, "acme")
        .unwrap()
        .1
        .mentions()[0]
        .tally
        .count();
    assert_eq!(mentioned, 1);
    // The last one: nothing is left, exactly.
    story.t_ms = START_MS + 60_000;
    let undo = story.row("calls", &back("1"));
    story.apply(&undo);
    let (_, node) = story
        .graph
        .find(story.market.catalog.table("people").unwrap().id, "p")
        .unwrap();
    assert!(node.events.iter().all(|e| *e == Default::default()));
    assert!(
        node.touches().is_empty() && node.recent().is_empty() && node.counters().next().is_none()
    );
    assert!(
        story
            .graph
            .find(story.market.catalog.root().id, "acme")
            .unwrap()
            .1
            .mentions()
            .is_empty()
    );
}

#[test]
fn a_retraction_with_another_owner_takes_the_event_back_where_it_is() {
    let mut story = Story::new();
    story.tell(
        "calls",
        &[("call_id", "1"), ("lead_id", "l"), ("kind", "v0")],
    );
    story.tell(
        "calls",
        &[("call_id", "2"), ("person_id", "p"), ("kind", "v0")],
    );
    let undo = story.row(
        "calls",
        &[
            ("call_id", "1"),
            ("person_id", "p"),
            ("kind", "v0"),
            ("revoked", "true"),
        ],
    );
    assert_eq!(story.apply(&undo), RowOutcome::Accepted);
    assert_eq!(
        (story.calls("leads", "l"), story.calls("people", "p")),
        (0, 1)
    );
    assert_eq!(story.stats().unmatched_retractions, 0);
}

#[test]
fn a_retraction_without_an_owner_takes_its_event_back_too() {
    let mut story = Story::new();
    let undo = |story: &mut Story, id| {
        let row = [("call_id", id), ("kind", "v0"), ("revoked", "true")];
        let row = story.row("calls", &row);
        story.apply(&row)
    };
    story.tell(
        "calls",
        &[("call_id", "1"), ("person_id", "p"), ("kind", "v0")],
    );
    assert_eq!(undo(&mut story, "1"), RowOutcome::Accepted);
    assert_eq!(undo(&mut story, "2"), RowOutcome::Accepted);
    let late = [("call_id", "2"), ("person_id", "p"), ("kind", "v0")];
    let late = story.row("calls", &late);
    assert_eq!(story.apply(&late), RowOutcome::Duplicate);
    assert_eq!(story.calls("people", "p"), 0);
}

#[test]
fn an_old_retraction_applies_if_its_event_may_be_there() {
    let mut story = Story::new();
    story.market.options.late_horizon_ms = 2 * DAY_MS;
    story.graph = story.market.graph(Tracking::On);
    let call = |id: &'static str| [("call_id", id), ("person_id", "p"), ("kind", "v0")];
    let back = |id| [&call(id)[..], &[("revoked", "true")]].concat();
    story.tell("calls", &call("old"));
    let (old, never) = (
        story.row("calls", &back("old")),
        story.row("calls", &back("never")),
    );
    story.t_ms += 20 * DAY_MS;
    story.tell("calls", &call("new"));
    story.graph.advance(AsOf::from_ms(story.t_ms));
    assert_eq!(story.graph.size().fingerprints, 1);
    let known = |row: &Plain, t_ms| Plain {
        known_ms: t_ms,
        ..row.clone()
    };
    let t_ms = story.t_ms;
    assert_eq!(story.apply(&known(&old, t_ms)), RowOutcome::Accepted);
    assert_eq!(
        (
            story.calls("people", "p"),
            story.stats().unmatched_retractions
        ),
        (1, 0)
    );
    assert_eq!(story.apply(&known(&old, t_ms)), RowOutcome::Duplicate);
    // Nothing of that day is left to undo.
    assert_eq!(story.apply(&known(&never, t_ms)), RowOutcome::Accepted);
    assert_eq!(
        (
            story.calls("people", "p"),
            story.stats().unmatched_retractions
        ),
        (1, 1)
    );
}

/// A seller logged as a person of a customer: the address may arrive after the events, and go.
#[test]
fn members_of_own_and_competitors_domains_count_nowhere() {
    let mut story = Story::new();
    story.tell("companies", &[("company_id", "acme")]);
    let person = |key: &'static str| [("person_id", key), ("company_id", "acme")];
    story.tell("people", &person("buyer"));
    story.tell("people", &person("seller"));
    story.tell(
        "calls",
        &[
            ("call_id", "c1"),
            ("person_id", "seller"),
            ("invited", "buyer"),
        ],
    );
    story.tell(
        "people",
        &[
            ("person_id", "friend"),
            ("company_id", "acme"),
            ("referred_by", "seller"),
        ],
    );
    let mentions = |story: &Story| {
        let people = story.market.catalog.table("people").unwrap().id;
        let (_, buyer) = story.graph.find(people, "buyer").unwrap();
        story.graph.mentions(buyer).len()
    };
    assert_eq!(story.cell("people", "seller"), "acme");
    assert_eq!(mentions(&story), 1);
    assert_eq!(
        story.edges("people", "friend"),
        ["people.referred_by seller"]
    );
    let with_address = |address: &'static str| {
        [
            ("person_id", "seller"),
            ("company_id", "acme"),
            ("email", address),
        ]
    };
    story.tell("people", &with_address("jo@sales.ourselves.example"));
    assert_eq!(story.cell("people", "seller"), "seller");
    assert_eq!(story.calls("people", "seller"), 1);
    assert_eq!(mentions(&story), 0);
    assert_eq!(story.edges("people", "friend"), [""; 0]);
    assert_eq!((story.stats().own, story.stats().competitors), (1, 0));
    let found = story.graph.outsiders();
    assert_eq!((found.own, found.competitors, found.events), (1, 0, 1));
    // A root is scored whatever its domain is, and gets nobody by it.
    story.tell(
        "companies",
        &[("company_id", "us"), ("website", "https://rival.example/")],
    );
    story.tell(
        "people",
        &[("person_id", "spy"), ("site", "https://rival.example/")],
    );
    assert_eq!(story.cell("people", "spy"), "spy");
    assert_eq!(story.graph.outsiders().roots, ["us"]);
    story.tell("people", &with_address("jo@acme.com"));
    assert_eq!(story.cell("people", "seller"), "acme");
    assert_eq!(mentions(&story), 1);
    assert_eq!(
        story.edges("people", "friend"),
        ["people.referred_by seller"]
    );
}

/// A scanner clicks in the name of two persons, of whom one has no row yet.
#[test]
fn a_burst_of_a_scanner_counts_as_none_until_it_is_below_the_limit() {
    let mut market = network(true);
    market.options.burst_events = 3;
    market.options.late_horizon_ms = DAY_MS;
    let mut story = Story::of(market);
    let at_ms = START_MS - START_MS.rem_euclid(10_000) + 10_000;
    let click = |story: &mut Story, id: &str, person: &str, revoked: &str| {
        let row = [
            ("call_id", id),
            ("person_id", person),
            ("kind", "v1"),
            ("sku", "mail"),
            ("revoked", revoked),
        ];
        let told = if revoked == "true" { 5 } else { 4 };
        story.t_ms = at_ms;
        let row = story.row("calls", &row[..told]);
        story.apply(&row)
    };
    let calls = |story: &Story| (story.calls("people", "p1"), story.calls("people", "p2"));
    story.tell("people", &[("person_id", "p1"), ("email", "jo@acme.com")]);
    click(&mut story, "c1", "p1", "");
    click(&mut story, "c2", "p1", "");
    click(&mut story, "c3", "p2", "");
    assert_eq!(calls(&story), (2, 1));
    let second = [("person_id", "p2"), ("email", "Jo <jo@Mail.ACME.com.>")];
    story.tell("people", &second);
    assert_eq!((calls(&story), story.stats().burst_events), ((0, 0), 3));
    assert_eq!(
        click(&mut story, "c3", "p2", ""),
        RowOutcome::Duplicate,
        "a repeat changes nothing"
    );
    click(&mut story, "c1", "p1", "true");
    assert_eq!((calls(&story), story.stats().burst_events), ((1, 1), 0));
    click(&mut story, "c4", "p1", "");
    assert_eq!((calls(&story), story.stats().burst_events), ((0, 0), 3));
    assert_eq!(story.graph.size().open_events, 3);
    assert_eq!(story.stats().inexact_retractions, 0);
    // Once no event of the day can come any more, nothing is kept one by one.
    story.t_ms = at_ms + 3 * DAY_MS;
    story.tell("calls", &[("call_id", "later"), ("person_id", "p1")]);
    story.graph.advance(AsOf::from_ms(story.t_ms));
    assert_eq!((calls(&story), story.stats().burst_events), ((1, 0), 3));
    assert_eq!(story.graph.size().open_events, 0);
    assert_eq!(story.graph.check(), Ok(()));
    assert_eq!(click(&mut story, "c5", "p2", ""), RowOutcome::Late);
}

/// A person who filled in three forms: in any order of rows the same row stands for the person.
#[test]
fn rows_of_one_address_are_one_person() {
    let rows: [(&str, [(&str, &str); 3]); 6] = [
        (
            "people",
            [
                ("person_id", "p1"),
                ("company_id", "acme"),
                ("email", "Jo@acme.com"),
            ],
        ),
        (
            "people",
            [
                ("person_id", "p2"),
                ("company_id", "acme"),
                ("email", "jo+news@acme.com"),
            ],
        ),
        (
            "leads",
            [
                ("lead_id", "l1"),
                ("company_id", "acme"),
                ("email", "Jo D <JO@acme.com>"),
            ],
        ),
        (
            "people",
            [
                ("person_id", "q1"),
                ("company_id", "acme"),
                ("email", "info@acme.com"),
            ],
        ),
        (
            "people",
            [
                ("person_id", "q2"),
                ("company_id", "acme"),
                ("email", "info@acme.com"),
            ],
        ),
        (
            "people",
            [
                ("person_id", "r1"),
                ("company_id", "else"),
                ("email", "jo@acme.com"),
            ],
        ),
    ];
    for turn in 0..rows.len() {
        let mut story = Story::new();
        let (later, first) = rows.split_at(turn);
        for (table, values) in first.iter().chain(later) {
            story.tell(table, values);
        }
        let person = |table: &str, key: &str| {
            let table = story.market.catalog.table(table).unwrap().id;
            let (at, node) = story.graph.find(table, key).unwrap();
            let persons = story.graph.persons(story.graph.cell(at));
            let one = persons.of(node.entity);
            story.graph.directory().key(one).to_string()
        };
        let found = rows.map(|(table, values)| person(table, values[0].1));
        assert_eq!(found, ["p1", "p1", "p1", "q1", "q2", "r1"], "from {turn}");
        story.delete("people", "p1");
        let people = story.market.catalog.table("people").unwrap().id;
        let (at, _) = story.graph.find(people, "p2").unwrap();
        let persons = story.graph.persons(story.graph.cell(at));
        let leads = story.market.catalog.table("leads").unwrap().id;
        let (_, lead) = story.graph.find(leads, "l1").unwrap();
        let one = persons.of(lead.entity);
        assert_eq!(&**story.graph.directory().key(one), "p2", "from {turn}");
    }
}

/// Two companies with one domain: the topmost one, or that of the member's country, has its people.
#[test]
fn a_shared_domain_leads_where_match_by_says() {
    let steered = |by: &str| {
        let mut market = network(true);
        market.options.match_by = Some(by.into());
        market.options.fits(&market.catalog).unwrap();
        Story::of(market)
    };
    let company = |story: &mut Story, key: &str, country: &str, parent: &str| {
        let row = [
            ("company_id", key),
            ("website", "acme.com"),
            ("country", country),
            ("parent", parent),
        ];
        story.tell(
            "companies",
            if parent.is_empty() { &row[..3] } else { &row },
        );
    };
    let mut story = steered("ultimate_parent");
    story.tell("people", &[("person_id", "p"), ("email", "jo@acme.com")]);
    company(&mut story, "a-branch", "de", "z-group");
    assert_eq!(story.cell("people", "p"), "a-branch");
    company(&mut story, "z-group", "us", "");
    assert_eq!(story.cell("people", "p"), "z-group");
    // The branch was sold.
    company(&mut story, "a-branch", "de", "");
    assert_eq!(story.cell("people", "p"), "a-branch");
    company(&mut story, "a-branch", "de", "old-name");
    story.tell(
        "companies",
        &[("company_id", "old-name"), ("merged_into", "z-group")],
    );
    assert_eq!(story.cell("people", "p"), "z-group");

    let mut story = steered("country");
    let person = |story: &mut Story, key: &str, country: &str| {
        let row = [
            ("person_id", key),
            ("email", "jo@acme.com"),
            ("country", country),
        ];
        story.tell("people", if country.is_empty() { &row[..2] } else { &row });
    };
    person(&mut story, "german", "DE ");
    person(&mut story, "french", "fr");
    person(&mut story, "nobody", "");
    let cells = |story: &Story| ["german", "french", "nobody"].map(|p| story.cell("people", p));
    company(&mut story, "us", "us", "");
    assert_eq!(
        cells(&story),
        ["us", "us", "us"],
        "one root needs no country"
    );
    company(&mut story, "de", "de", "");
    assert_eq!(story.cell("people", "german"), "de");
    let others = [
        story.cell("people", "french"),
        story.cell("people", "nobody"),
    ];
    assert_eq!(others, ["acme.com / fr", "acme.com"], "no root agrees");
    person(&mut story, "nobody", "US");
    assert_eq!(story.cell("people", "nobody"), "us");
}

#[test]
fn match_by_names_what_the_schemas_have() {
    let market = network(true);
    let refused = |by: &str| {
        let mut options = market.options.clone();
        options.match_by = Some(by.into());
        options.fits(&market.catalog).err().map(|e| e.to_string())
    };
    assert_eq!(refused("country"), None);
    assert_eq!(refused("ultimate_parent"), None);
    for by in ["industry", "continent", "website"] {
        let text = refused(by).unwrap_or_else(|| panic!("{by} is accepted"));
        assert!(
            text.starts_with("graph.match_by: ") && text.contains(by),
            "{text}"
        );
    }
}
