//! The plan's hash: it changes exactly with the meaning of a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadpulse_features::{FeaturePlan, FeatureSpec};
use leadpulse_graph::GraphOptions;
use leadpulse_schema::Catalog;

/// Schemas by file name.
type Schemas = BTreeMap<&'static str, String>;

fn schemas() -> Schemas {
    let account = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"name","type":["null","string"],"default":null,"leadpulse":{"label":true}},
      {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"hub":"industries"}},
      {"name":"size","type":["null","long"],"default":null}]}"#;
    let contact = r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"partner","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts"}},
      {"name":"level","type":["null","string"],"default":null,"leadpulse":{"values":["low","high"]}}]}"#;
    let visit = r#"{"type":"record","name":"Visit","leadpulse":{"table":"visits","role":"event","stages":{"field":"page","order":{"blog":1,"demo":2}}},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"contact","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
      {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"page","type":["null","string"],"default":null,"leadpulse":{"values":["blog","demo"]}}]}"#;
    [("account", account), ("contact", contact), ("visit", visit)]
        .map(|(name, json)| (name, json.to_owned()))
        .into()
}

fn hash(schemas: &Schemas, options: &GraphOptions, spec: &FeatureSpec) -> String {
    let files: Vec<(&str, &str)> = schemas
        .iter()
        .map(|(name, json)| (*name, json.as_str()))
        .collect();
    FeaturePlan::new(
        Arc::new(Catalog::from_json(&files).unwrap()),
        options,
        spec.clone(),
    )
    .hash()
    .to_owned()
}

fn hash_with(name: &'static str, from: &str, to: &str) -> String {
    let mut schemas = schemas();
    let json = schemas.get_mut(name).unwrap();
    assert!(json.contains(from), "{from} is in {name}");
    *json = json.replacen(from, to, 1);
    hash(&schemas, &GraphOptions::default(), &FeatureSpec::default())
}

fn plain_hash() -> String {
    hash(
        &schemas(),
        &GraphOptions::default(),
        &FeatureSpec::default(),
    )
}

#[test]
fn another_schema_is_another_hash() {
    for (name, from, to) in [
        // A field more, another name, another value, another order of values.
        (
            "account",
            r#"{"name":"size","#,
            r#"{"name":"extra","type":["null","double"],"default":null},{"name":"size","#,
        ),
        ("account", r#""size""#, r#""staff""#),
        (
            "account",
            r#"{"name":"size","type":["null","long"]"#,
            r#"{"name":"size","type":["null","string"]"#,
        ),
        ("contact", r#"["low","high"]"#, r#"["low","high","top"]"#),
        ("contact", r#"["low","high"]"#, r#"["high","low"]"#),
        // The same names, but other owners, stages and peers.
        (
            "visit",
            r#""order":{"blog":1,"demo":2}"#,
            r#""order":{"blog":2,"demo":1}"#,
        ),
        (
            "visit",
            r#""stages":{"field":"page","order":{"blog":1,"demo":2}}"#,
            r#""stages":{"field":"page","order":{"blog":2}}"#,
        ),
        (
            "contact",
            r#"{"ref":"accounts","owner":true}"#,
            r#"{"ref":"accounts"}"#,
        ),
        (
            "contact",
            r#"{"ref":"accounts"}"#,
            r#"{"ref":"accounts","owner":true}"#,
        ),
        ("account", r#"{"hub":"industries"}"#, r#"{"hub":"sectors"}"#),
        (
            "account",
            r#"{"hub":"industries"}"#,
            r#"{"feature":"category"}"#,
        ),
        (
            "visit",
            r#"{"values":["blog","demo"]}"#,
            r#"{"values":["blog","demo"],"group":"web"}"#,
        ),
        (
            "visit",
            r#"{"values":["blog","demo"]}"#,
            r#"{"values":["blog","demo"],"groups":{"demo":"web"}}"#,
        ),
        // Other references, former roots, outcomes and retractions.
        (
            "contact",
            r#"{"values":["low","high"]}"#,
            r#"{"values":["low","high"],"ordinal":true}"#,
        ),
        (
            "contact",
            r#"{"ref":"accounts"}"#,
            r#"{"ref":"accounts","previous":true}"#,
        ),
        ("contact", r#"{"ref":"accounts"}"#, r#"{"ref":"contacts"}"#),
        (
            "contact",
            r#"{"ref":"accounts"}"#,
            r#"{"ref":"contacts","became":true}"#,
        ),
        ("account", r#"{"label":true}"#, r#"{"match":"website"}"#),
        (
            "visit",
            r#""role":"event","#,
            r#""role":"event","outcome":{"field":"page","won":["demo"]},"#,
        ),
    ] {
        assert_ne!(
            hash_with(name, from, to),
            plain_hash(),
            "{name}: {from} → {to}"
        );
    }
}

#[test]
fn the_values_that_count_as_won_are_in_the_hash() {
    let outcomes = [
        r#""won":["demo"]"#,
        r#""won":["blog"]"#,
        r#""won":["blog","demo"]"#,
        r#""won":["demo"],"lost":["blog"]"#,
    ];
    let hashes: BTreeSet<String> = outcomes
        .iter()
        .map(|ends| {
            hash_with(
                "visit",
                r#""role":"event","#,
                &format!(r#""role":"event","outcome":{{"field":"page",{ends}}},"#),
            )
        })
        .collect();
    assert_eq!(hashes.len(), outcomes.len());
}

#[test]
fn parts_that_decide_no_number_keep_the_hash() {
    for (name, from, to) in [
        (
            "account",
            r#""name":"Account""#,
            r#""name":"Firm","doc":"a firm""#,
        ),
        (
            "account",
            r#""role":"root""#,
            r#""role":"root","aliases":["company"]"#,
        ),
        (
            "account",
            r#"{"name":"size","#,
            r#"{"name":"phone","type":["null","string"],"default":null,"leadpulse":{"feature":"none"}},{"name":"size","#,
        ),
        ("account", r#"{"label":true}"#, r#"{"feature":"none"}"#),
    ] {
        assert_eq!(
            hash_with(name, from, to),
            plain_hash(),
            "{name}: {from} → {to}"
        );
    }
    let renamed: Schemas = [("z", "account"), ("y", "contact"), ("x", "visit")]
        .map(|(new, old)| (new, schemas()[old].clone()))
        .into();
    assert_eq!(
        hash(&renamed, &GraphOptions::default(), &FeatureSpec::default()),
        plain_hash()
    );
}

#[test]
fn options_that_decide_the_state_are_in_the_hash() {
    let spec = FeatureSpec::default();
    let with = |change: &dyn Fn(&mut GraphOptions)| {
        let mut options = GraphOptions::default();
        change(&mut options);
        hash(&schemas(), &options, &spec)
    };
    let changes: [&dyn Fn(&mut GraphOptions); 7] = [
        &|o| o.half_lives_days[1] = 15.0,
        &|o| o.half_lives_days.truncate(2),
        &|o| o.hashed_buckets = 9,
        &|o| o.rhythm_days = 20,
        &|o| o.staged_events = 20,
        &|o| o.order_window_days = 20.0,
        &|o| o.board_period_ms *= 2,
    ];
    for (i, change) in changes.iter().enumerate() {
        assert_ne!(with(change), plain_hash(), "change {i}");
    }
    let keeps: [&dyn Fn(&mut GraphOptions); 4] = [
        &|o| o.shards = 3,
        &|o| o.board_epsilon = 0.0,
        &|o| o.late_horizon_ms = 0,
        &|o| o.future_tolerance_ms = 0,
    ];
    for (i, keep) in keeps.iter().enumerate() {
        assert_eq!(with(keep), plain_hash(), "change {i}");
    }
}

#[test]
fn the_vocabulary_is_in_the_hash() {
    let spec = |values: &[&str]| FeatureSpec {
        vocabularies: [(
            "accounts.industry".to_owned(),
            values.iter().map(|v| (*v).to_owned()).collect(),
        )]
        .into(),
        ..FeatureSpec::default()
    };
    let hashes: Vec<String> = [&["a"][..], &["a", "b"], &["b", "a"]]
        .iter()
        .map(|values| hash(&schemas(), &GraphOptions::default(), &spec(values)))
        .collect();
    assert_ne!(hashes[0], plain_hash());
    assert_ne!(hashes[0], hashes[1]);
    assert_ne!(hashes[1], hashes[2]);
}
