//! Tests of loading: one valid market, and that market with one thing wrong at a time.

use crate::catalog::{Catalog, DataType, Feature, MatchBy, Meaning, RelationKind, Role};

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root","aliases":["Companies"]},"fields":[
  {"name":"account_id","type":"long","leadpulse":{"key":true}},
  {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"hub":"industries"}},
  {"name":"employees","type":["null","int"],"default":null,"leadpulse":{"static":true,"group":"firmographics"}},
  {"name":"website","type":["null","string"],"default":null,"leadpulse":{"match":"website"}},
  {"name":"tech_stack","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"hub":"PRODUCTS"}},
  {"name":"name","type":["null","string"],"default":null,"leadpulse":{"label":true}}]}"#;
const CONTACTS: &str = r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
  {"name":"contact_id","type":"string","leadpulse":{"key":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"companies"}},
  {"name":"manager_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts"}},
  {"name":"tier","type":{"type":"enum","name":"Tier","symbols":["A","B"]}},
  {"name":"active","type":"boolean"},
  {"name":"changed","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"changed_fields":true}},
  {"name":"seen_at","type":{"type":"long","logicalType":"timestamp-micros"},"leadpulse":{"time":true}}]}"#;
const PRODUCTS: &str = r#"{"type":"record","name":"Product","leadpulse":{"table":"products","role":"hub"},"fields":[
  {"name":"sku","type":"string","leadpulse":{"key":true}},
  {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#;
const VIEWS: &str = r#"{"type":"record","name":"View","leadpulse":{"table":"views","role":"event","stages":{"field":"kind","order":{"blog":1,"pricing":2}}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"sku","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
  {"name":"kind","type":["null","string"],"default":null,"leadpulse":{"values":["blog","pricing","other"]}},
  {"name":"note","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}}]}"#;
const OUTPUT: &str = r#"{"type":"record","name":"Score","fields":[{"name":"p","type":{"type":"map","values":"double"}}]}"#;

const MARKET: [(&str, &str); 5] = [
    ("a.avsc", ACCOUNTS),
    ("b.avsc", CONTACTS),
    ("c.avsc", PRODUCTS),
    ("d.avsc", VIEWS),
    ("score.avsc", OUTPUT),
];

#[test]
fn a_valid_market_becomes_tables_fields_and_hubs() {
    let catalog = Catalog::from_json(&MARKET).unwrap();
    assert_eq!(
        catalog
            .tables
            .iter()
            .map(|t| t.name.as_str())
            .collect::<Vec<_>>(),
        ["accounts", "contacts", "products", "views"]
    );
    assert_eq!(catalog.root().name, "accounts");
    assert_eq!(catalog.table("COMPANIES").unwrap().name, "accounts");

    let field =
        |table: &str, field: &str| catalog.table(table).unwrap().field(field).unwrap().clone();
    let types = |table: &str| {
        catalog
            .table(table)
            .unwrap()
            .fields
            .iter()
            .map(|f| (f.feature, f.data_type.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        types("contacts"),
        [
            (Feature::None, DataType::Text),
            (Feature::None, DataType::Text),
            (Feature::None, DataType::Text),
            (
                Feature::Category,
                DataType::Symbol(vec!["A".into(), "B".into()])
            ),
            (Feature::Number, DataType::Bool),
            (Feature::None, DataType::TextList),
            (Feature::None, DataType::Time),
        ]
    );
    assert_eq!(
        field("accounts", "account_id").data_type,
        DataType::Text,
        "keys are text, whatever their Avro type"
    );
    assert_eq!(
        field("accounts", "website").match_by,
        Some(MatchBy::Website)
    );
    assert_eq!(field("contacts", "tier").values, ["A", "B"]);
    assert_eq!(field("products", "price").feature, Feature::Number);
    assert_eq!(
        (
            field("views", "note").feature,
            field("views", "kind").feature
        ),
        (Feature::Text, Feature::Category)
    );
    assert!(field("accounts", "employees").is_static && field("accounts", "employees").nullable);

    let owners = |table: &str| {
        let table = catalog.table(table).unwrap();
        table
            .owners
            .iter()
            .map(|f| table.field_at(*f).name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(owners("views"), ["contact_id", "account_id"]);
    assert_eq!(
        owners("contacts"),
        ["account_id"],
        "by default all references but the one to itself"
    );
    assert!(owners("accounts").is_empty());

    let hubs: Vec<_> = catalog
        .hubs
        .iter()
        .map(|h| {
            (
                h.name.as_str(),
                h.table.map(|t| catalog.table_at(t).name.as_str()),
                h.sources.len(),
            )
        })
        .collect();
    assert_eq!(
        hubs,
        [("industries", None, 1), ("products", Some("products"), 2)],
        "a ref and a promoted set feed the hub table's hub"
    );
    assert_eq!(
        field("accounts", "tech_stack").hub,
        field("views", "sku").hub
    );
    let views = catalog.table("views").unwrap();
    assert_eq!(views.staged.as_ref().unwrap().stages["pricing"], 2);
    assert_eq!((views.role, views.is_entity()), (Role::Event, false));
}

/// The market with a lead that becomes a contact, deals with outcomes, and people who moved.
fn wide_market() -> Catalog {
    let leads = r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"converted_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","became":true}},
      {"name":"email","type":["null","string"],"default":null,"leadpulse":{"match":"domain"}}]}"#;
    let deals = r#"{"type":"record","name":"Deal","leadpulse":{"table":"deals","role":"member","outcome":{"field":"stage","won":["won"],"lost":["lost"]}},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"contact_ids","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"ref":"contacts","group":"deals"}},
      {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["open","won","lost"],"groups":{"won":"history"}}}]}"#;
    let contacts = CONTACTS.replace(
        r#"{"name":"active","type":"boolean"}"#,
        r#"{"name":"before","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","previous":true,"group":"moves"}},
           {"name":"active","type":"boolean"}"#,
    );
    let contacts = contacts.replace(
        r#""symbols":["A","B"]}"#,
        r#""symbols":["A","B"]},"leadpulse":{"ordinal":true}"#,
    );
    let views = VIEWS.replace(
        r#"{"name":"note""#,
        r#"{"name":"gone","type":"boolean","default":false,"leadpulse":{"retraction":true}},
           {"name":"invited","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts"}},
           {"name":"note""#,
    );
    Catalog::from_json(&[
        ("a", ACCOUNTS),
        ("b", &contacts),
        ("c", PRODUCTS),
        ("d", &views),
        ("e", leads),
        ("f", deals),
    ])
    .unwrap()
}

#[test]
fn relations_outcomes_and_identities_are_read() {
    let catalog = wide_market();
    let relations: Vec<_> = catalog
        .relations
        .iter()
        .map(|r| {
            (
                r.name.as_str(),
                catalog.table_at(r.target).name.as_str(),
                r.group.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        relations,
        [
            ("contacts.manager_id", "contacts", None),
            ("contacts/previous", "accounts", Some("moves")),
            ("deals.contact_ids", "contacts", Some("deals")),
            ("deals/previous", "accounts", None),
            ("leads/previous", "accounts", None),
            ("views.invited", "contacts", None),
        ]
    );
    assert!(matches!(
        catalog.relations[5].kind,
        RelationKind::Mention(_)
    ));
    let meaning = |table: &str, field: &str| {
        catalog
            .table(table)
            .unwrap()
            .field(field)
            .unwrap()
            .reference
            .unwrap()
            .meaning
    };
    assert_eq!(
        (
            meaning("leads", "converted_id"),
            meaning("contacts", "before")
        ),
        (Meaning::Became, Meaning::Previous)
    );
    let deals = catalog.table("deals").unwrap();
    let outcome = deals.outcome.as_ref().unwrap();
    assert_eq!(
        ["won", "lost", "open"].map(|value| outcome.of(value)),
        [Some(true), Some(false), None]
    );
    assert_eq!(deals.field("stage").unwrap().groups["won"], "history");
    assert_eq!(deals.owners.len(), 1, "a list of references owns nothing");
    assert!(
        catalog
            .table("contacts")
            .unwrap()
            .field("tier")
            .unwrap()
            .ordinal
    );
    let views = catalog.table("views").unwrap();
    assert_eq!(views.retraction, Some(views.field("gone").unwrap().id));
    assert_eq!(views.field("gone").unwrap().feature, Feature::None);
}

#[test]
fn the_fingerprint_depends_on_meaning_only() {
    let original = Catalog::from_json(&MARKET).unwrap().fingerprint();
    let mut renamed: Vec<(String, &str)> = MARKET
        .iter()
        .rev()
        .enumerate()
        .map(|(i, (_, json))| (format!("{i}.avsc"), *json))
        .collect();
    assert_eq!(
        Catalog::from_json(&renamed).unwrap().fingerprint(),
        original
    );
    let versioned = CONTACTS.replace(r#""time":true"#, r#""time":true,"version":true"#);
    let mut with_version: Vec<(String, &str)> = renamed.clone();
    let contacts = with_version.iter_mut().find(|(_, json)| *json == CONTACTS);
    contacts.unwrap().1 = &versioned;
    let catalog = Catalog::from_json(&with_version).unwrap();
    let contacts = catalog.table("contacts").unwrap();
    assert_eq!(
        (contacts.version, contacts.time),
        (contacts.time, contacts.version)
    );
    assert!(contacts.version.is_some());
    assert_ne!(catalog.fingerprint(), original);
    let changed = VIEWS.replace(r#""pricing":2"#, r#""pricing":3"#);
    renamed
        .iter_mut()
        .find(|(_, json)| *json == VIEWS)
        .unwrap()
        .1 = &changed;
    assert_ne!(
        Catalog::from_json(&renamed).unwrap().fingerprint(),
        original
    );
}

/// The market with one replacement in one file has exactly these faults: (record.field, part of the message).
#[track_caller]
fn check(file: &str, from: &str, to: &str, expected: &[(&str, &str)]) {
    let files: Vec<(String, String)> = MARKET
        .iter()
        .map(|(name, json)| {
            assert!(
                *name != file || json.contains(from),
                "{file} does not contain {from}"
            );
            (
                name.to_string(),
                if *name == file {
                    json.replacen(from, to, 1)
                } else {
                    json.to_string()
                },
            )
        })
        .collect();
    let faults = Catalog::from_json(&files).map(|_| ()).unwrap_err();
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), expected.len(), "{found:#?}");
    for (fault, (place, message)) in faults.iter().zip(expected) {
        let at = fault
            .field
            .as_ref()
            .map_or(fault.record.clone(), |f| format!("{}.{f}", fault.record));
        assert!(
            at == *place && fault.message.contains(message),
            "expected {place}: {message}; found {found:#?}"
        );
        assert!(
            !fault.file.is_empty() && !fault.hint.is_empty(),
            "{found:#?}"
        );
    }
}

#[test]
fn each_fault_is_named_with_file_record_and_field() {
    let key = r#""leadpulse":{"key":true}"#;
    check(
        "a.avsc",
        r#""static":true"#,
        r#""statik":true"#,
        &[("Account.employees", "unknown field `statik`")],
    );
    check(
        "a.avsc",
        r#""role":"root""#,
        r#""rolle":"root""#,
        &[("Account", "unknown field `rolle`")],
    );
    check(
        "a.avsc",
        r#""role":"root""#,
        r#""role":"boss""#,
        &[("Account", "unknown variant `boss`")],
    );
    check("a.avsc", "{", "[", &[("", "is not JSON")]);
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"bolean""#,
        &[("Contact", "is not a valid Avro schema")],
    );
    check(
        "b.avsc",
        r#""ref":"companies""#,
        r#""ref":"acounts""#,
        &[("Contact.account_id", "'acounts', which no file defines")],
    );
    check(
        "b.avsc",
        r#""ref":"companies""#,
        r#""ref":"views""#,
        &[("Contact.account_id", "which is an event table")],
    );
    check(
        "a.avsc",
        key,
        r#""doc":"no key""#,
        &[("Account", "has no key")],
    );
    check(
        "a.avsc",
        r#"{"static":true,"#,
        r#"{"key":true,"#,
        &[
            ("Account.employees", "is the key, but may be null"),
            ("Account.employees", "is marked key, but so is 'account_id'"),
        ],
    );
    check(
        "d.avsc",
        r#""leadpulse":{"feature":"text"}"#,
        r#""leadpulse":{"time":true}"#,
        &[
            ("View.note", "is not a time"),
            ("View.note", "is marked time, but so is 'at'"),
        ],
    );
    check(
        "d.avsc",
        r#""leadpulse":{"time":true}"#,
        r#""doc":"none""#,
        &[("View", "event without a time")],
    );
    check(
        "b.avsc",
        r#""role":"member""#,
        r#""role":"root""#,
        &[("Contact", "is a root table, but so is 'accounts'")],
    );
    check(
        "b.avsc",
        r#""table":"contacts""#,
        r#""table":"Contacts""#,
        &[("Contact", "has capitals")],
    );
    check(
        "b.avsc",
        r#""role":"member""#,
        r#""role":"member","aliases":["companies"]"#,
        &[("Contact", "names the table of a.avsc too")],
    );
    check(
        "d.avsc",
        r#""ref":"products""#,
        r#""ref":"products","owner":true"#,
        &[("View.sku", "'products' is a hub")],
    );
    check(
        "b.avsc",
        r#""ref":"contacts""#,
        r#""ref":"contacts","owner":true"#,
        &[("Contact", "cycle: contacts → contacts")],
    );
    check(
        "d.avsc",
        r#""values":["blog","pricing","other"]"#,
        r#""values":["blog"]"#,
        &[("View.kind", "'pricing', which it cannot have")],
    );
    check(
        "d.avsc",
        r#""field":"kind""#,
        r#""field":"sort""#,
        &[("View", "the field 'sort', which it does not have")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"values":["x"]}"#,
        &[("Contact.active", "not text or an enum")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"hub":"flags"}"#,
        &[("Contact.active", "not a category or set")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"feature":"set"}"#,
        &[("Contact.active", "the feature 'set'")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"changed_fields":true}"#,
        &[
            ("Contact.active", "not an array of strings"),
            (
                "Contact.changed",
                "is marked changed_fields, but so is 'active'",
            ),
        ],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"active":true}"#,
        &[("Contact.active", "not a boolean of a staff table")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"territory":true}"#,
        &[("Contact.active", "not text of the root or of a staff table")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"boolean","leadpulse":{"version":true}"#,
        &[("Contact.active", "is marked version, but has no order")],
    );
    check(
        "d.avsc",
        r#"{"values":["blog","pricing","other"]}"#,
        r#"{"values":["blog","pricing","other"],"version":true}"#,
        &[("View.kind", "rows of its table have no versions")],
    );
    check(
        "b.avsc",
        r#""type":"boolean""#,
        r#""type":"long","leadpulse":{"version":true,"feature":"number"}"#,
        &[("Contact.active", "the version and the time are none")],
    );
    check(
        "b.avsc",
        r#"{"ref":"contacts"}"#,
        r#"{"ref":"products","became":true}"#,
        &[("Contact.manager_id", "does not connect two entities")],
    );
    check(
        "b.avsc",
        r#"{"ref":"contacts"}"#,
        r#"{"ref":"companies","was":true}"#,
        &[("Contact.manager_id", "between a root and a member")],
    );
    check(
        "b.avsc",
        r#"{"ref":"contacts"}"#,
        r#"{"ref":"contacts","previous":true}"#,
        &[("Contact.manager_id", "from a member to the root")],
    );
    check(
        "b.avsc",
        r#"{"ref":"contacts"}"#,
        r#"{"became":true}"#,
        &[("Contact.manager_id", "refers to nothing")],
    );
    check(
        "b.avsc",
        r#"{"ref":"contacts"}"#,
        r#"{"ref":"contacts","became":true,"was":true}"#,
        &[("Contact.manager_id", "more than one")],
    );
    check(
        "d.avsc",
        r#"{"feature":"text"}"#,
        r#"{"retraction":true}"#,
        &[("View.note", "not a boolean of an event table")],
    );
    check(
        "d.avsc",
        r#"{"feature":"text"}"#,
        r#"{"ordinal":true}"#,
        &[("View.note", "not a category with declared values")],
    );
    check(
        "d.avsc",
        r#""values":["blog","pricing","other"]"#,
        r#""values":["blog","pricing","other"],"groups":{"prices":"x"}"#,
        &[("View.kind", "the value 'prices', which it does not declare")],
    );
    let outcome = r#""role":"event","outcome":{"field":"kind","won":["sold"]}"#;
    check(
        "d.avsc",
        r#""role":"event""#,
        outcome,
        &[("View.kind", "the outcome names the value 'sold'")],
    );
    check(
        "c.avsc",
        r#""role":"hub""#,
        r#""role":"hub","outcome":{"field":"price","won":["1"]}"#,
        &[
            ("Product", "neither an event nor a member table"),
            ("Product.price", "is not text or an enum"),
        ],
    );
    for (bad, message) in [
        (r#"{"type":"map","values":"string"}"#, "a map"),
        (
            r#"{"type":"record","name":"Inner","fields":[]}"#,
            "a nested record",
        ),
        (r#"["null","string","long"]"#, "a union of 2 types"),
        (r#""bytes""#, "bytes"),
        (
            r#"{"type":"array","items":"long"}"#,
            "an array of something else",
        ),
    ] {
        check(
            "b.avsc",
            r#""type":"boolean""#,
            &format!(r#""type":{bad}"#),
            &[("Contact.active", message)],
        );
    }
}

#[test]
fn faults_of_all_files_come_together() {
    let files: Vec<(&str, String)> = MARKET
        .iter()
        .map(|(name, json)| {
            (
                *name,
                json.replace(
                    r#""ref":"contacts","owner":true"#,
                    r#""ref":"nobody","owner":true"#,
                )
                .replace(r#""type":"boolean""#, r#""type":"bytes""#),
            )
        })
        .collect();
    let faults = Catalog::from_json(&files).unwrap_err();
    let places: Vec<_> = faults
        .iter()
        .map(|f| (f.file.as_str(), f.field.as_deref()))
        .collect();
    assert_eq!(
        places,
        [("b.avsc", Some("active")), ("d.avsc", Some("contact_id"))]
    );
}

#[test]
fn a_table_alone_is_a_catalog_if_its_versions_have_times() {
    let table = |extra: &str| {
        format!(
            r#"{{"type":"record","name":"Account","leadpulse":{{"table":"accounts","role":"root"}},"fields":[
            {{"name":"id","type":"string","leadpulse":{{"key":true}}}}{extra}]}}"#
        )
    };
    let timed = table(
        r#",{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}"#,
    );
    assert!(Catalog::from_json(&[("accounts.avsc", &timed)]).is_ok());
    let timeless = table("");
    let faults = Catalog::from_json(&[("accounts.avsc", &timeless)]).unwrap_err();
    assert!(
        faults[0].hint.contains("a table that stands alone a time"),
        "{faults:?}"
    );
}

#[test]
fn a_table_without_neighbours_is_a_fault() {
    let lonely = r#"{"type":"record","name":"Agent","leadpulse":{"table":"agents","role":"hub"},"fields":[{"name":"id","type":"int","leadpulse":{"key":true}}]}"#;
    let mut files = MARKET.to_vec();
    files.push(("agents.avsc", lonely));
    let faults = Catalog::from_json(&files).unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].message.contains("receives no messages"),
        "{faults:?}"
    );

    let stranded = lonely.replace("hub", "member");
    let linked = VIEWS.replace(r#""feature":"text""#, r#""ref":"agents""#);
    let files = [
        ("a", ACCOUNTS),
        ("b", CONTACTS),
        ("c", PRODUCTS),
        ("d", linked.as_str()),
        ("e", stranded.as_str()),
    ];
    let faults = Catalog::from_json(&files).unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].message.contains("cannot reach a root"),
        "{faults:?}"
    );
}

#[test]
fn owners_in_a_ring_are_a_fault() {
    let leads = r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts"}}]}"#;
    let contacts = CONTACTS.replace(r#""ref":"contacts""#, r#""ref":"leads""#);
    let faults = Catalog::from_json(&[
        ("a", ACCOUNTS),
        ("b", &contacts),
        ("c", PRODUCTS),
        ("d", VIEWS),
        ("e", leads),
    ])
    .unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].message.contains("contacts → leads → contacts"),
        "{faults:?}"
    );
}

#[test]
fn a_folder_is_read_without_its_subfolders() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("versions")).unwrap();
    std::fs::write(dir.path().join("versions/old.avsc"), ACCOUNTS).unwrap();
    for (name, json) in MARKET {
        std::fs::write(dir.path().join(name), json).unwrap();
    }
    std::fs::write(dir.path().join("README.md"), "not a schema").unwrap();
    let catalog = Catalog::load(dir.path()).unwrap();
    assert_eq!(
        catalog.fingerprint(),
        Catalog::from_json(&MARKET).unwrap().fingerprint()
    );
    let missing = Catalog::load(&dir.path().join("nowhere")).unwrap_err();
    assert!(missing[0].message.contains("cannot be read"), "{missing:?}");
}

#[test]
fn the_shipped_schemas_load() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    if let Err(faults) = Catalog::load(&folder) {
        panic!(
            "{}",
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}

#[test]
fn bursts_name_fields_of_an_event_table() {
    let faults = |table: &str| {
        let views = VIEWS.replace(r#""role":"event""#, &format!(r#""role":"event",{table}"#));
        assert_ne!(views, VIEWS, "the table is annotated");
        let files = [
            ("a", ACCOUNTS),
            ("b", CONTACTS),
            ("c", PRODUCTS),
            ("d", &views),
        ];
        match Catalog::from_json(&files) {
            Ok(catalog) => {
                let bursts = catalog.table("views").unwrap().bursts.clone();
                assert!(bursts.is_some_and(|bursts| bursts.only.len() == 1));
                String::new()
            }
            Err(faults) => faults[0].to_string(),
        }
    };
    let cases = [
        (r#""bursts":{"campaign":"kind","only":{"kind":["v"]}}"#, ""),
        (r#""bursts":{"campaign":"mail"}"#, "'mail'"),
        (r#""bursts":{"campaign":"at"}"#, "not text"),
        (
            r#""bursts":{"campaign":"kind","only":{"sort":["v"]}}"#,
            "'sort'",
        ),
        (
            r#""bursts":{"campaign":"kind","only":{"kind":[]}}"#,
            "bursts.only without values",
        ),
        (r#""bursts":{"only":{"kind":["v"]}}"#, "campaign"),
    ];
    for (table, expected) in cases {
        let found = faults(table);
        assert!(
            found.contains(expected) && expected.is_empty() == found.is_empty(),
            "{table}: {found}"
        );
    }
}

const OVERRIDES: &str = r#"{"type":"record","name":"Override","leadpulse":{"table":"overrides","role":"override","override":{"decision":"word","who":"who","why":"why","until":"until"}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"account_id","type":["null","long"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"word","type":["null","string"],"default":null,"leadpulse":{"hub":"words"}},
  {"name":"who","type":["null","string"],"default":null},
  {"name":"why","type":["null","string"],"default":null},
  {"name":"until","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}"#;
const FEEDBACK: &str = r#"{"type":"record","name":"Feedback","leadpulse":{"table":"feedback","role":"feedback","feedback":{"verdict":"verdict","who":"who","type":"kind"}},"fields":[
  {"name":"alert","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"verdict","type":{"type":"enum","name":"V","symbols":["accepted","rejected"]}},
  {"name":"kind","type":["null","string"],"default":null},
  {"name":"who","type":"string"}]}"#;

fn with_said(overrides: &str, feedback: &str) -> Result<Catalog, Vec<crate::SchemaFault>> {
    let mut files: Vec<(&str, &str)> = MARKET.to_vec();
    files.extend([("o.avsc", overrides), ("f.avsc", feedback)]);
    Catalog::from_json(&files)
}

#[test]
fn tables_of_what_people_say_leave_the_fingerprint_hubs_and_relations_as_they_are() {
    let market = Catalog::from_json(&MARKET).unwrap();
    let catalog = with_said(OVERRIDES, FEEDBACK).unwrap();
    assert_eq!(catalog.fingerprint(), market.fingerprint());
    assert_eq!(catalog.hubs.len(), market.hubs.len());
    assert_eq!(catalog.relations.len(), market.relations.len());
    let overrides = catalog.table("overrides").unwrap();
    let fields = overrides.overrides.unwrap();
    assert_eq!(overrides.field_at(fields.decision).name, "word");
    assert_eq!(overrides.field_at(fields.until.unwrap()).name, "until");
    let owners = overrides.owners.iter();
    let owners: Vec<&str> = owners
        .map(|field| overrides.field_at(*field).name.as_str())
        .collect();
    assert_eq!(owners, ["contact_id", "account_id"]);
    let feedback = catalog.table("feedback").unwrap();
    let fields = feedback.feedback.unwrap();
    assert_eq!(feedback.field_at(fields.alert_type.unwrap()).name, "kind");
    assert_eq!(fields.note, None);
}

#[test]
fn faults_of_tables_of_what_people_say_are_named() {
    let cases = [
        (
            r#""override":{"decision":"word","who":"who","why":"why","until":"until"}"#,
            r#""aliases":[]"#,
            "names none of its fields",
        ),
        (
            r#""role":"override""#,
            r#""role":"event""#,
            "declares override, but its role is event",
        ),
        (
            r#""until":"until"}"#,
            r#""until":"why"}"#,
            "is a field of override, but is not a time",
        ),
        (
            r#""who":"who","why""#,
            r#""who":"whom","why""#,
            "names the field 'whom', which it does not have",
        ),
        (r#","owner":true"#, "", "without a subject"),
        (
            r#""leadpulse":{"time":true}"#,
            r#""leadpulse":{}"#,
            "of the role override without a time",
        ),
    ];
    for (found, instead, expected) in cases {
        let faults = with_said(&OVERRIDES.replace(found, instead), FEEDBACK).unwrap_err();
        let is_named = faults.iter().any(|fault| fault.message.contains(expected));
        assert!(is_named, "{expected}: {faults:?}");
    }
    let other = FEEDBACK.replace("[\"accepted\",\"rejected\"]", "[\"accepted\",\"maybe\"]");
    let faults = with_said(OVERRIDES, &other).unwrap_err();
    assert!(faults[0].message.contains("'maybe'"), "{faults:?}");
}

#[test]
fn rows_of_what_people_say_have_their_words_time_and_subject() {
    use crate::admit::admit;
    use crate::{Operation, Position, RowBatch, Value};

    let catalog = with_said(OVERRIDES, FEEDBACK).unwrap();
    let check = |table: &str, values: &[(&str, Value<'_>)], expected: Option<&str>| {
        let table = catalog.table(table).unwrap();
        let mut batch = RowBatch::new();
        let at = Position::default();
        let mut row = batch.start(&catalog, table.id, Operation::Upsert, at, 1);
        for (name, value) in values {
            row.set(table.field(name).unwrap().id, *value);
        }
        let refused = admit(table, &mut row, |_| false).err();
        let expectation = refused.as_ref().map(|refusal| refusal.expected());
        assert_eq!(expectation, expected, "{values:?}");
    };
    let text = Value::Text;
    let whole = [
        ("id", text("o1")),
        ("at", Value::Time(5)),
        ("account_id", text("7")),
        ("word", text("mute")),
        ("who", text("ann")),
    ];
    let without = |name: &str| -> Vec<(&str, Value<'_>)> {
        whole
            .into_iter()
            .filter(|(field, _)| *field != name)
            .collect()
    };
    check("overrides", &whole, None);
    check(
        "overrides",
        &without("at"),
        Some("a decision needs the time at which it was made"),
    );
    check(
        "overrides",
        &without("account_id"),
        Some("a decision needs the entity that it is about"),
    );
    check(
        "overrides",
        &without("who"),
        Some("a decision needs who made it"),
    );
    let words = "one of pin, mute, exclude, none";
    check("overrides", &without("word"), Some(words));
    let unknown = [&without("word")[..], &[("word", text("Mute"))]].concat();
    check("overrides", &unknown, Some(words));
    let answer = [
        ("alert", text("a1")),
        ("at", Value::Time(5)),
        ("verdict", text("rejected")),
        ("who", text("bob")),
    ];
    check("feedback", &answer, None);
    check(
        "feedback",
        &answer[..3],
        Some("an answer needs who gave it"),
    );
}

const ERASURES: &str = r#"{"type":"record","name":"Erasure","leadpulse":{"table":"erasures","role":"erasure","erasure":{"who":"who","action":"action","email":"email"}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"email","type":["null","string"],"default":null},
  {"name":"action","type":["null","string"],"default":null},
  {"name":"who","type":"string"}]}"#;

fn with_erasures(json: &str) -> Result<Catalog, Vec<crate::SchemaFault>> {
    let mut files: Vec<(&str, &str)> = MARKET.to_vec();
    files.push(("e.avsc", json));
    Catalog::from_json(&files)
}

#[test]
fn requests_to_erase_leave_the_fingerprint_as_it_is_and_name_a_subject() {
    let market = Catalog::from_json(&MARKET).unwrap();
    let catalog = with_erasures(ERASURES).unwrap();
    assert_eq!(catalog.fingerprint(), market.fingerprint());
    assert_eq!(catalog.relations.len(), market.relations.len());
    let table = catalog.table("erasures").unwrap();
    let fields = table.erasure.unwrap();
    assert_eq!(table.field_at(fields.email.unwrap()).name, "email");
    assert_eq!(table.owners.len(), 1);
    for (part, other, fault) in [
        (r#","email":"email""#, "", None),
        (r#","owner":true"#, "", None),
        (
            r#""who":"who""#,
            r#""who":"at""#,
            Some("is not text or an enum"),
        ),
        (
            r#""role":"erasure""#,
            r#""role":"feedback""#,
            Some("declares erasure"),
        ),
        (
            r#""erasure":{"who":"who","action":"action","email":"email"}"#,
            r#""aliases":[]"#,
            Some("names none of its fields"),
        ),
    ] {
        assert!(ERASURES.contains(part), "{part}");
        let found = with_erasures(&ERASURES.replacen(part, other, 1));
        match (fault, found) {
            (None, found) => assert!(found.is_ok(), "{part}: {found:?}"),
            (Some(fault), Ok(_)) => panic!("{part}: no fault {fault:?}"),
            (Some(fault), Err(found)) => {
                let found = format!("{found:?}");
                assert!(found.contains(fault), "{part}: {found}");
            }
        }
    }
    let neither = ERASURES.replacen(r#","email":"email""#, "", 1);
    let neither = neither.replacen(r#","owner":true"#, "", 1);
    let found = format!("{:?}", with_erasures(&neither).unwrap_err());
    assert!(found.contains("without a subject"), "{found}");
}
