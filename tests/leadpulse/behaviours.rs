//! Behaviours to which a score is promised to react. Each is a pair of histories that differ in
//! nothing else, added to a market and scored by a model that was trained on that market. And
//! orders of leads that people know from lead scoring, with explanations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};
use leadpulse_sim::{Knobs, Market, MarketOptions, write_files};
use serde_json::{Value as Json, json};

use super::process::{arg, leadpulse};
use crate::harness::repository;

/// Moment at which most stories are scored: 2025-11-02.
const NOW_MS: i64 = 1_762_041_600_000;
const NOW: &str = "2025-11-02";
/// Begin of the market: 2024-01-01.
const START_MS: i64 = 1_704_067_200_000;
const TABLES: [&str; 9] = [
    "accounts",
    "contacts",
    "leads",
    "opportunities",
    "opportunity_stage_changes",
    "activities",
    "content_views",
    "product_usage",
    "users",
];

/// Rows added to those of the market.
#[derive(Default)]
struct Story {
    rows: BTreeMap<&'static str, Vec<Json>>,
    events: usize,
}

impl Story {
    fn row(&mut self, table: &'static str, row: Json) {
        self.rows.entry(table).or_default().push(row);
    }
    fn next(&mut self) -> String {
        self.events += 1;
        format!("story-{}", self.events)
    }
    fn account(&mut self, key: &str, more: Json) {
        let mut row = json!({ "account_id": key, "updated_at": NOW_MS - 400 * DAY_MS, "name": key, "industry": "Technology",
            "employee_count": 2000, "region": "EMEA", "created_at": NOW_MS - 400 * DAY_MS });
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.row("accounts", row);
    }
    fn contact(
        &mut self,
        key: &str,
        account: &str,
        department: &str,
        seniority: &str,
        days_ago: f64,
    ) {
        let at = NOW_MS - (days_ago * DAY_MS_F64) as i64;
        self.row(
            "contacts",
            json!({ "contact_id": key, "updated_at": at, "account_id": account, "department": department, "seniority": seniority }),
        );
    }
    fn view(&mut self, contact: &str, kind: &str, days_ago: f64) {
        let id = self.next();
        let at = NOW_MS - (days_ago * DAY_MS_F64) as i64;
        self.row("content_views", json!({ "view_id": id, "content_type": kind, "occurred_at": at, "contact_id": contact }));
    }
    fn act(&mut self, contact: &str, kind: &str, days_ago: f64) {
        let id = self.next();
        let at = NOW_MS - (days_ago * DAY_MS_F64) as i64;
        self.row("activities", json!({ "activity_id": id, "type": kind, "occurred_at": at, "contact_id": contact, "channel": "web" }));
    }
    /// An activity or a view of a lead.
    fn of_lead(&mut self, table: &'static str, lead: &str, kind: &str, days_ago: f64) {
        let id = self.next();
        let at = NOW_MS - (days_ago * DAY_MS_F64) as i64;
        let row = match table {
            "content_views" => {
                json!({ "view_id": id, "content_type": kind, "occurred_at": at, "lead_id": lead })
            }
            _ => {
                json!({ "activity_id": id, "type": kind, "occurred_at": at, "lead_id": lead, "channel": "web" })
            }
        };
        self.row(table, row);
    }
    fn deal(&mut self, key: &str, account: &str, stages: &[(&str, f64)]) {
        for (stage, days_ago) in stages {
            let at = NOW_MS - (days_ago * DAY_MS_F64) as i64;
            self.row("opportunities", json!({ "opportunity_id": key, "updated_at": at, "account_id": account, "stage": stage, "amount": 50_000.0, "type": "New business" }));
            let id = self.next();
            self.row("opportunity_stage_changes", json!({ "change_id": id, "opportunity_id": key, "account_id": account, "to_stage": stage, "changed_at": at, "amount": 50_000.0 }));
        }
    }
    /// An account with three people of three departments, nothing done yet.
    fn trio(&mut self, account: &str) -> [String; 3] {
        self.account(account, json!({}));
        let people = [
            ("a", "Engineering", "IC"),
            ("b", "Finance", "Director"),
            ("c", "Product", "VP"),
        ];
        people.map(|(name, department, seniority)| {
            let key = format!("{account}-{name}");
            self.contact(&key, account, department, seniority, 380.0);
            key
        })
    }
    fn write(mut self, data: &Path) {
        for (table, rows) in &mut self.rows {
            let time = match *table {
                "accounts" | "contacts" | "leads" | "opportunities" => "updated_at",
                "opportunity_stage_changes" => "changed_at",
                _ => "occurred_at",
            };
            rows.sort_by_key(|row| row[time].as_i64().unwrap());
            let lines: Vec<String> = rows.iter().map(Json::to_string).collect();
            std::fs::write(
                data.join(format!("{table}-story.jsonl")),
                lines.join("\n") + "\n",
            )
            .unwrap();
        }
    }
}

/// The stories of this file, side by side in one market.
fn stories() -> Story {
    let mut s = Story::default();

    // Two leads of the same status: an engineer who reads and signs up for a trial, an executive who does nothing.
    for (lead, department, seniority) in [
        ("engineer", "Engineering", "IC"),
        ("chief", "Executive", "C-Level"),
    ] {
        let account = format!("co-{lead}");
        s.account(&account, json!({}));
        let at = NOW_MS - 30 * DAY_MS;
        s.row("leads", json!({ "lead_id": lead, "updated_at": at, "account_id": account, "department": department, "seniority": seniority,
            "status": "Open", "source": "Webinar", "created_at": at }));
        s.of_lead("activities", lead, "email_open", 28.0);
    }
    for (i, kind) in ["docs", "docs", "pricing", "security", "docs", "pricing"]
        .into_iter()
        .enumerate()
    {
        s.of_lead("content_views", "engineer", kind, 9.0 - 1.2 * i as f64);
    }
    s.of_lead("activities", "engineer", "trial_signup", 2.0);

    // The same eight views of pricing and security: by three people of three departments, by one
    // person.
    for (account, who) in [("committee", [0, 1, 2]), ("single", [0, 0, 0])] {
        let people = s.trio(account);
        for (i, kind) in [
            "pricing",
            "security",
            "case_study",
            "pricing",
            "docs",
            "security",
            "pricing",
            "docs",
        ]
        .into_iter()
        .enumerate()
        {
            s.view(&people[who[i % 3]], kind, 12.0 - 1.4 * i as f64);
        }
    }
    // One person's own history; the history of the colleagues differs.
    for (account, is_busy) in [("colleagues", true), ("loner", false)] {
        let people = s.trio(account);
        s.view(&people[0], "case_study", 9.0);
        s.view(&people[0], "pricing", 4.0);
        for colleague in people[1..].iter().filter(|_| is_busy) {
            s.view(colleague, "docs", 8.0);
            s.view(colleague, "pricing", 5.0);
            s.act(colleague, "meeting", 2.0);
        }
    }
    // The same four steps, upwards and downwards.
    let steps: [(bool, &str); 4] = [
        (true, "blog"),
        (true, "case_study"),
        (true, "pricing"),
        (false, "demo_request"),
    ];
    for account in ["upwards", "downwards"] {
        let people = s.trio(account);
        for (i, (is_view, kind)) in steps.into_iter().enumerate() {
            let days_ago = if account == "upwards" {
                32.0 - 10.0 * i as f64
            } else {
                2.0 + 10.0 * i as f64
            };
            if is_view {
                s.view(&people[1], kind, days_ago)
            } else {
                s.act(&people[1], kind, days_ago)
            }
        }
    }
    // Twelve views within ninety days, faster and faster, slower and slower.
    for account in ["accelerating", "slowing"] {
        let people = s.trio(account);
        for i in 0..12 {
            let since_start = 88.0 * (f64::from(i + 1) / 12.0).sqrt();
            let days_ago = if account == "accelerating" {
                90.0 - since_start
            } else {
                since_start
            };
            s.view(
                &people[i as usize % 2],
                ["docs", "pricing", "case_study"][i as usize % 3],
                days_ago,
            );
        }
    }
    // Busy until now, then silence.
    let people = s.trio("silent");
    for i in 0..9 {
        s.view(
            &people[i % 3],
            ["pricing", "docs", "case_study"][i % 3],
            14.0 - 1.5 * i as f64,
        );
    }
    s.act(&people[1], "meeting", 1.0);
    // Two industries of ten; in one, deals closed within the last weeks.
    for industry in ["Shipping", "Mining"] {
        for i in 0..10 {
            let account = format!("{industry}-{i}");
            s.account(&account, json!({ "industry": industry }));
            s.contact(
                &format!("{account}-a"),
                &account,
                "Operations",
                "Director",
                300.0,
            );
            if industry == "Shipping" && i > 0 && i < 7 {
                let start = 60.0 - 5.0 * f64::from(i);
                s.deal(
                    &format!("{account}-deal"),
                    &account,
                    &[
                        ("Discovery", start),
                        ("Proposal", start - 10.0),
                        ("Closed Won", start - 20.0),
                    ],
                );
            }
        }
    }
    // A person joins: from a customer, from nowhere.
    s.account("customer", json!({}));
    s.deal(
        "customer-deal",
        "customer",
        &[
            ("Discovery", 320.0),
            ("Proposal", 300.0),
            ("Closed Won", 280.0),
        ],
    );
    s.account("with-champion", json!({}));
    s.account("with-stranger", json!({}));
    s.contact("champion", "customer", "Engineering", "Director", 380.0);
    for i in 0..10 {
        s.view("champion", "docs", 330.0 - 5.0 * f64::from(i));
        s.view("stranger", "docs", 330.0 - 5.0 * f64::from(i));
    }
    s.contact("champion", "with-champion", "Engineering", "Director", 20.0);
    s.contact("stranger", "with-stranger", "Engineering", "Director", 20.0);
    // Lost eight months ago; then nothing, or another person comes.
    for account in ["lost", "lost-and-back"] {
        let people = s.trio(account);
        s.view(&people[0], "pricing", 300.0);
        s.deal(
            &format!("{account}-deal"),
            account,
            &[
                ("Discovery", 290.0),
                ("Proposal", 270.0),
                ("Closed Lost", 240.0),
            ],
        );
        if account == "lost-and-back" {
            for (i, kind) in ["case_study", "docs", "pricing", "pricing"]
                .into_iter()
                .enumerate()
            {
                s.view(&people[2], kind, 10.0 - 2.5 * i as f64);
            }
        }
    }
    // Nothing ever happened there.
    s.account(
        "cold",
        json!({ "updated_at": NOW_MS - 30 * DAY_MS, "created_at": NOW_MS - 30 * DAY_MS }),
    );
    s
}

/// One of the default regularisations, for speed.
const FIT: &str = r#"
ensemble = 2
selection_members = 1
candidates = [
  { input_dropout_ratio = 0.2 },
]"#;

/// A market with the stories in it, and a model of that market. People there differ much in
/// activity, so that many events of one person mean less than the same events of three.
struct World {
    config: PathBuf,
    data: PathBuf,
    bundle: PathBuf,
    _dir: tempfile::TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, bundle, config) = (
            dir.path().join("data"),
            dir.path().join("bundle"),
            dir.path().join("leadpulse.toml"),
        );
        let mut knobs = Knobs::default();
        knobs.people.loudness_spread = 2.0;
        let options = MarketOptions {
            accounts: 2000,
            days: 700,
            seed: 12,
            start_ms: START_MS,
        };
        std::fs::create_dir(&data).unwrap();
        write_files(
            &mut Market::new(options, knobs).unwrap(),
            &data,
            &mut |_| {},
        )
        .unwrap();

        // Every source reads all files of its table; the fit is a small one.
        let mut settings: toml::Table =
            std::fs::read_to_string(repository().join("leadpulse.toml"))
                .unwrap()
                .parse()
                .unwrap();
        settings.insert("schemas".into(), arg(&repository().join("schemas")).into());
        for source in settings["sources"].as_array_mut().unwrap() {
            let pattern = source["file"]
                .as_str()
                .unwrap()
                .replace(".jsonl", "*.jsonl");
            source
                .as_table_mut()
                .unwrap()
                .insert("file".into(), pattern.into());
        }
        let fit: toml::Table = FIT.parse().unwrap();
        for task in settings["tasks"].as_array_mut().unwrap() {
            let task = task.as_table_mut().unwrap();
            let anchors = if task["name"].as_str() == Some(CONTACTS) {
                "every 60d"
            } else {
                "every 20d"
            };
            task.insert("anchors".into(), anchors.into());
            task.insert("fit".into(), fit.clone().into());
        }
        std::fs::write(&config, settings.to_string()).unwrap();
        leadpulse(&[
            "train",
            "--config",
            arg(&config),
            "--data",
            arg(&data),
            "--out",
            arg(&bundle),
        ])
        .done();

        // Added after training: no story was in the examples.
        stories().write(&data);
        for folder in ["accounts", "leads", "committee"] {
            for table in TABLES {
                let from = repository().join(format!("tests/seeds/{folder}/{table}.jsonl"));
                if from.exists() {
                    std::fs::copy(from, data.join(format!("{table}-{folder}.jsonl"))).unwrap();
                }
            }
        }
        World {
            config,
            data,
            bundle,
            _dir: dir,
        }
    })
}

/// The output of `explain` for entities (`table/key`) as of a moment, in their order.
fn explained(task: &str, as_of: &str, entities: &[&str]) -> Vec<Json> {
    let world = world();
    let mut args = vec![
        "explain",
        "--config",
        arg(&world.config),
        "--data",
        arg(&world.data),
        "--model",
        arg(&world.bundle),
    ];
    args.extend(["--task", task, "--as-of", as_of, "--json"]);
    args.extend(entities);
    let ended = leadpulse(&args).done();
    let found: Vec<Json> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let keys: Vec<&str> = found
        .iter()
        .map(|f| f["entity_id"].as_str().unwrap())
        .collect();
    assert_eq!(keys, entities);
    found
}

fn probabilities(task: &str, as_of: &str, entities: &[&str]) -> Vec<f64> {
    explained(task, as_of, entities)
        .iter()
        .map(|e| e["probability"].as_f64().unwrap())
        .collect()
}

const ACCOUNTS: &str = "account-wins-90d";
const LEADS: &str = "lead-converts-90d";
const CONTACTS: &str = "contact-converts-90d";

#[test]
fn accounts_react_to_what_relates_them() {
    let pairs = [
        (
            "committee",
            "single",
            "three people of three departments against one",
        ),
        (
            "upwards",
            "downwards",
            "blog, case study, pricing, demo against the reverse",
        ),
        (
            "accelerating",
            "slowing",
            "the same views faster and faster",
        ),
        ("Shipping-0", "Mining-0", "peers of the industry closed"),
        (
            "with-champion",
            "with-stranger",
            "somebody came from a customer",
        ),
        (
            "lost-and-back",
            "lost",
            "lost, and then another person engages",
        ),
    ];
    let names: Vec<&str> = pairs
        .iter()
        .flat_map(|(more, less, _)| [*more, *less])
        .collect();
    let p = probabilities(ACCOUNTS, NOW, &names);
    let wrong: Vec<String> = pairs
        .iter()
        .zip(p.chunks_exact(2))
        .filter(|(_, p)| p[0] <= p[1])
        .map(|((more, less, what), p)| format!("{what}: {more} {:.4}, {less} {:.4}", p[0], p[1]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_person_rises_with_the_colleagues() {
    let p = probabilities(CONTACTS, NOW, &["colleagues-a", "loner-a"]);
    assert!(p[0] > p[1], "{p:?}");
}

#[test]
fn silence_lowers_a_score_without_any_event() {
    let before = probabilities(ACCOUNTS, NOW, &["silent"])[0];
    let after = probabilities(ACCOUNTS, "2025-11-23", &["silent"])[0];
    assert!(after < before, "{before} → {after}");
}

#[test]
fn an_account_without_any_engagement_has_a_score() {
    let cold = &explained(ACCOUNTS, NOW, &["cold"])[0];
    let p = cold["probability"].as_f64().unwrap();
    assert!(p > 0.0 && p < 0.2, "{p}");
}

#[test]
fn a_lead_who_reads_and_tries_outranks_a_silent_executive() {
    // The order of leads of different status is that of the market, not of the point system's critics: docs/gaps.md.
    let p = probabilities(LEADS, NOW, &["engineer", "chief"]);
    assert!(p[0] > p[1], "{p:?}");
}

#[test]
fn the_explanation_of_an_account_names_people_deal_and_peers() {
    let found = explained(ACCOUNTS, NOW, &["A001", "A004"]);
    let p: Vec<f64> = found
        .iter()
        .map(|e| e["probability"].as_f64().unwrap())
        .collect();
    assert!(p[0] > p[1], "{p:?}");
    let text = found[0]["drivers"].to_string();
    for words in ["Negotiation", "120,000", "C-Level", "Finance", "Closed Won"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let drivers = found[0]["drivers"].as_array().unwrap();
    let shares = drivers.iter().map(|d| d["share"].as_i64().unwrap().abs());
    assert_eq!(shares.sum::<i64>(), 100);
    let sum: f64 = drivers
        .iter()
        .map(|d| d["contribution"].as_f64().unwrap())
        .sum();
    let (base, logit) = (
        found[0]["base_logit"].as_f64().unwrap(),
        found[0]["logit"].as_f64().unwrap(),
    );
    assert!(
        (base + sum - logit).abs() < 1e-6,
        "{base} + {sum} is not {logit}"
    );
}
