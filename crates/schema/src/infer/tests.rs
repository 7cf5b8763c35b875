use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::catalog::Catalog;
use crate::{FileOptions, FileReader, RowBatch};

/// Writes files, infers, and loads the schemas as a reader of the folder would.
#[track_caller]
fn inferred(files: &[(&str, String)]) -> (Inferred, Catalog) {
    let folder = TempDir::new().unwrap();
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let inferred = infer(&paths, None).unwrap_or_else(|error| panic!("{error}"));
    let schemas: Vec<(&str, &str)> = inferred
        .schemas
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    match Catalog::from_json(&schemas) {
        Ok(catalog) => (inferred, catalog),
        Err(faults) => panic!("{faults:?}\n{:#?}", inferred.schemas),
    }
}

/// The rows of the inferred sources, read under the inferred configuration untouched: keys by
/// table.
#[track_caller]
fn reread(files: &[(&str, String)]) -> BTreeMap<String, Vec<String>> {
    let (inferred, catalog) = inferred(files);
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let catalog = Arc::new(catalog);
    let configuration: toml::Table = inferred.configuration.parse().unwrap();
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in configuration["sources"].as_array().unwrap() {
        let mut shape = source.as_table().unwrap().clone();
        let mut text = |name: &str| {
            let value = shape.remove(name)?;
            value.as_str().map(str::to_owned)
        };
        let table = text("table").unwrap();
        let (_, file, known_time) = (text("topic"), text("file").unwrap(), text("known_time"));
        let options = FileOptions {
            known_time,
            shape: shape.try_into().unwrap(),
            ..FileOptions::default()
        };
        let id = catalog.table(&table).unwrap().id;
        let path = folder.path().join(file);
        let open = FileReader::open(&path, catalog.clone(), id, options);
        let mut reader = open.unwrap_or_else(|error| panic!("{error}"));
        let mut rows = RowBatch::new();
        while reader
            .read(&mut rows, 100)
            .unwrap_or_else(|error| panic!("{error}"))
            > 0
        {}
        let found = rows.iter().map(|row| row.key().to_owned());
        keys.entry(table).or_default().extend(found);
    }
    keys
}

/// Lines `1..=rows`, each written by `line`, below a header.
fn rows(header: &str, rows: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = format!("{header}\n");
    for row in 1..=rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

/// A day of 2024, from 0 to 363.
fn day(row: usize) -> (usize, usize) {
    (row % 364 / 31 + 1, row % 28 + 1)
}

fn shops() -> (&'static str, String) {
    let text = rows("shop_id,name,city,opened_at", 60, |row| {
        let (month, day) = day(row * 7);
        let city = ["Bern", "Basel", "Genf"][row % 3];
        format!("S{row:04},Shop {row},{city},2023-{month:02}-{day:02}")
    });
    ("shops.csv", text)
}

fn role<'c>(catalog: &'c Catalog, table: &str) -> &'c str {
    catalog
        .table(table)
        .unwrap_or_else(|| panic!("no table {table}"))
        .role
        .name()
}

#[test]
fn shops_buyers_and_visits_become_root_member_and_event() {
    let buyers = rows("buyer_id,shop_id,job,email,known_since", 200, |row| {
        let job = ["Owner", "Clerk"][row % 2];
        format!(
            "B{row:05},S{:04},{job},b{row}@shop{}.example,2023-02-01",
            row % 60 + 1,
            row % 60
        )
    });
    let visits = rows("visit_id,at,buyer_id,kind,amount", 3000, |row| {
        let (month, day) = day(row);
        let kind = ["page", "quote", "order"][row % 3];
        format!(
            "V{row},2024-{month:02}-{day:02} 10:30:00,B{:05},{kind},{}.5",
            row % 200 + 1,
            row % 90
        )
    });
    let files = [shops(), ("buyers.csv", buyers), ("visits.csv", visits)];
    let (inferred, catalog) = inferred(&files);
    assert_eq!(role(&catalog, "shops"), "root");
    assert_eq!(role(&catalog, "buyers"), "member");
    assert_eq!(role(&catalog, "visits"), "event");
    let visits = catalog.table("visits").unwrap();
    assert_eq!(visits.owners, [visits.field("buyer_id").unwrap().id]);
    let shops = catalog.table("shops").unwrap();
    assert!(shops.field("city").unwrap().hub.is_some());
    assert!(shops.field("name").unwrap().label);
    assert!(inferred.task.is_some());
    for setting in ["text =", "times =", "columns =", "key ="] {
        let text = &inferred.configuration;
        assert!(
            !text.contains(setting),
            "plain files need no settings:\n{text}"
        );
    }
}

#[test]
fn a_stage_that_is_won_or_lost_is_the_outcome_of_the_first_task() {
    let changes = rows("change_id,shop_id,changed_at,to_stage", 600, |row| {
        let (month, day) = day(row);
        let stage = ["Discovery", "Proposal", "Closed Won", "Closed Lost"][row % 4];
        format!(
            "C{row},S{:04},2024-{month:02}-{day:02}T08:00:00Z,{stage}",
            row % 60 + 1
        )
    });
    let (inferred, catalog) = inferred(&[shops(), ("stage_changes.csv", changes)]);
    let outcome = catalog.table("stage_changes").unwrap().outcome.as_ref();
    assert!(outcome.is_some());
    let text = &inferred.configuration;
    assert!(
        text.contains("WHERE stage_changes.to_stage = 'Closed Won'"),
        "{text}"
    );
    assert_eq!(inferred.task.as_deref(), Some("shop-won-30d"));
}

#[test]
fn each_departure_from_plain_csv_is_written_into_the_configuration() {
    let orders = rows(
        "Order ID;ShopId;Order Date;Total Amount;Express;Weight",
        500,
        |row| {
            let (month, day) = day(row);
            let express = ["Ja", "Nein"][row % 2];
            let weight = if row % 5 == 0 { "NA" } else { "3" };
            format!(
                "O{row};S{:04};{day:02}.{month:02}.2024;€ 1.{:03},50;{express};{weight}",
                row % 60 + 1,
                row
            )
        },
    );
    let bytes = format!("\u{feff}{orders}");
    let (inferred, catalog) = inferred(&[shops(), ("orders.csv", bytes)]);
    let text = &inferred.configuration;
    let expected = "text = { separator = \";\", decimal = \",\", thousands = \".\", currency = [\"€\"], \
                    nulls = [\"NA\"], yes = [\"Ja\"], no = [\"Nein\"] }";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains("times = { order_date = \"%d.%m.%Y\" }"),
        "{text}"
    );
    assert!(text.contains("\"Order ID\" = \"order_id\""), "{text}");
    assert_eq!(role(&catalog, "orders"), "event");
    text.parse::<toml::Table>()
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
}

#[test]
fn an_amount_names_the_currency_beside_it_and_rates_are_proposed() {
    let with = |codes: &'static [&'static str]| {
        let orders = rows(
            "order_id,shop_id,ordered_at,amount,quantity,currency_code",
            400,
            |row| {
                let (month, day) = day(row);
                let code = codes[row % codes.len()];
                format!(
                    "O{row},S{:04},2024-{month:02}-{day:02},{},2,{code}",
                    row % 60 + 1,
                    row * 10
                )
            },
        );
        inferred(&[shops(), ("orders.csv", orders)])
    };
    let (several, catalog) = with(&["USD", "EUR", "USD"]);
    let orders = catalog.table("orders").unwrap();
    let amounts: Vec<_> = orders.amounts().collect();
    assert_eq!(amounts.len(), 1, "a quantity is no amount");
    let (amount, currency) = amounts[0];
    assert_eq!(amount.name, "amount");
    assert_eq!(orders.field_at(currency).name, "currency_code");
    let text = &several.configuration;
    assert!(
        text.contains("# doubt: amount is in several currencies (USD, EUR"),
        "{text}"
    );
    assert!(
        text.contains("# [currency]\n# base = \"USD\"\n# rates = { EUR = … }"),
        "{text}"
    );
    text.parse::<toml::Table>()
        .unwrap_or_else(|error| panic!("{error}\n{text}"));

    let (one, catalog) = with(&["USD"]);
    assert_eq!(catalog.table("orders").unwrap().amounts().count(), 1);
    assert!(
        !one.configuration.contains("[currency]"),
        "{}",
        one.configuration
    );
}

#[test]
fn events_without_a_key_get_one_from_several_columns_or_the_row() {
    let check = |line: fn(usize) -> String, key: &str| {
        let visits = rows("shop_id,at,page", 900, line);
        let (inferred, _) = inferred(&[shops(), ("visits.csv", visits)]);
        let text = &inferred.configuration;
        assert!(text.contains(key), "{key} is not in\n{text}");
    };
    let seconds = |row: usize| {
        let (month, day) = day(row);
        format!(
            "S{:04},2024-{month:02}-{day:02} 10:{:02}:{:02},home",
            row % 60 + 1,
            row % 60,
            row / 60
        )
    };
    check(seconds, "key = [\"shop_id\", \"at\"]");
    check(
        |row| format!("S{:04},2024-01-{:02},home", row % 60 + 1, row % 5 + 1),
        "key = \"@row\"",
    );
}

#[test]
fn files_without_an_id_are_read_under_the_inferred_keys() {
    let distinct = |keys: &[String]| keys.iter().collect::<BTreeSet<_>>().len();
    let visits = rows("ShopId;Visited At;Page", 900, |row| {
        format!(
            "S{:04};{:02}.01.2024 10:{:02};p{}",
            row % 60 + 1,
            row % 28 + 1,
            row % 60,
            row % 7
        )
    });
    let lines = rows("order_id,line_no,shop_id,ordered_at,price", 900, |row| {
        let (order, (month, day)) = (row / 3, day(row / 3));
        format!(
            "O{order},{},S{:04},2024-{month:02}-{day:02} 10:00:00,{}.5",
            row % 3 + 1,
            order % 60 + 1,
            row % 17
        )
    });
    let files = [shops(), ("visits.csv", visits), ("order_lines.csv", lines)];
    let keys = reread(&files);
    assert_eq!(keys["visits"].len(), 900);
    assert_eq!(distinct(&keys["visits"]), 420);
    assert_eq!(
        (keys["order_lines"].len(), distinct(&keys["order_lines"])),
        (900, 900)
    );
    let (inferred, _) = inferred(&files);
    let text = &inferred.configuration;
    assert!(text.contains("key = \"@row\""), "{text}");
    assert!(text.contains("key = [\"order_id\", \"line_no\"]"), "{text}");
}

#[test]
fn typed_columns_of_parquet_need_no_settings() {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    let folder = TempDir::new().unwrap();
    let (name, text) = shops();
    let csv = folder.path().join(name);
    fs::write(&csv, text).unwrap();
    let path = folder.path().join("visits.parquet");
    let message = "message visits { required binary visit_id (UTF8); required binary shop_id (UTF8); \
        required int64 at (TIMESTAMP(NANOS,false)); optional double amount; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let file = fs::File::create(&path).unwrap();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |of: &dyn Fn(i64) -> String| -> Vec<ByteArray> {
        (1..=600)
            .map(|row| ByteArray::from(of(row).as_str()))
            .collect()
    };
    let ids = [
        text(&|row| format!("V{row}")),
        text(&|row| format!("S{:04}", row % 60 + 1)),
    ];
    for values in &ids {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(values, None, None)
            .unwrap();
        column.close().unwrap();
    }
    let times: Vec<i64> = (1..=600)
        .map(|row| (1_700_000_000 + row * 3600) * 1_000_000_000)
        .collect();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&times, None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let amounts: Vec<f64> = (1..=600).map(|row| f64::from(row % 70) + 0.5).collect();
    column
        .typed::<DoubleType>()
        .write_batch(&amounts, Some(&[1; 600]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let inferred = infer(&[csv, path], None).unwrap_or_else(|error| panic!("{error}"));
    let text = &inferred.configuration;
    assert!(text.contains("file = \"visits.parquet\""), "{text}");
    for setting in ["text =", "times =", "columns =", "key ="] {
        assert!(
            !text.contains(setting),
            "typed columns need no settings:\n{text}"
        );
    }
    let schemas: Vec<(&str, &str)> = inferred
        .schemas
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let catalog = Catalog::from_json(&schemas).unwrap();
    let visits = catalog.table("visits").unwrap();
    assert_eq!(visits.role.name(), "event");
    assert_eq!(visits.time, visits.field("at").map(|field| field.id));
}

#[test]
fn ids_in_two_spellings_meet_and_their_key_is_normalised() {
    let check = |key: fn(usize) -> String, reference: fn(usize) -> String, step: &str| {
        let shops = rows("shop_id,name,city,opened_at", 60, |row| {
            format!(
                "{},Shop {row},{},2023-02-01",
                key(row),
                ["Bern", "Basel"][row % 2]
            )
        });
        let visits = rows("visit_id,shop_id,at", 600, |row| {
            let (month, day) = day(row);
            format!(
                "V{row},{},2024-{month:02}-{day:02}",
                reference(row % 60 + 1)
            )
        });
        let files = [("shops.csv", shops), ("visits.csv", visits)];
        let (inferred, catalog) = inferred(&files);
        let (_, text) = inferred
            .schemas
            .iter()
            .find(|(name, _)| name == "shops.avsc")
            .unwrap();
        assert!(text.contains(step), "{text}");
        let visits = catalog.table("visits").unwrap();
        assert_eq!(visits.owners, [visits.field("shop_id").unwrap().id]);
        let shops = catalog.table("shops").unwrap().id;
        for row in 1..=60 {
            let (one, other) = (key(row), reference(row));
            assert_eq!(
                catalog.normalised_key(shops, &one),
                catalog.normalised_key(shops, &other)
            );
        }
    };
    check(
        |row| format!("{}", 78_971_900 + row),
        |row| format!("{}.0", 78_971_900 + row),
        r#""normalise":["integer"]"#,
    );
    // The suffix says that of the last five characters the first is a capital.
    check(
        |row| format!("001d000000Iq{:03}AAB", row),
        |row| format!("001d000000Iq{:03}", row),
        r#""normalise":["salesforce-id"]"#,
    );
}

#[test]
fn things_that_only_events_name_become_the_root_of_the_same_file() {
    let orders = rows("order_id,customer_id,ordered_at,total", 800, |row| {
        let (month, day) = day(row);
        format!(
            "{row},C{:05},2024-{month:02}-{day:02} 12:00:00,{}.25",
            row % 90,
            row % 40
        )
    });
    let (inferred, catalog) = inferred(&[("orders.csv", orders)]);
    assert_eq!(role(&catalog, "customers"), "root");
    assert_eq!(role(&catalog, "orders"), "event");
    assert_eq!(
        inferred
            .configuration
            .matches("file = \"orders.csv\"")
            .count(),
        2
    );
}

#[test]
fn doubts_stand_where_they_concern() {
    let check = |header: &str, line: fn(usize) -> String, doubt: &str| {
        let visits = rows(header, 600, line);
        let (inferred, _) = inferred(&[shops(), ("visits.csv", visits)]);
        let text = &inferred.configuration;
        let place = text
            .find(doubt)
            .unwrap_or_else(|| panic!("{doubt} is not in\n{text}"));
        let source = text.find("table = \"visits\"").unwrap();
        assert!(place < source && source - place < 600, "{text}");
    };
    check(
        "visit_id,shop_id,at",
        |row| {
            format!(
                "{row},S{:04},0{}/0{}/2024",
                row % 60 + 1,
                row % 9 + 1,
                row % 8 + 1
            )
        },
        "# doubt: the times of at fit %m/%d/%Y and %d/%m/%Y",
    );
    check(
        "visit_id,shop_id,at",
        |row| format!("{row},S{:04},2024-01-{:02}", row % 100 + 1, row % 28 + 1),
        "# doubt: shop_id refers to shops: 60 % of its values are found there",
    );
}

#[test]
fn files_that_make_no_graph_are_refused_with_the_remedy() {
    let check = |text: &str, expected: &str| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("things.csv");
        fs::write(&path, text).unwrap();
        let error = infer(&[path], None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("a,b\n1,2\n", "no table is referred to by another");
    check("a,a\n1,2\n", "two columns are called 'a'");
}

#[test]
fn files_of_one_table_are_joined_by_a_pattern() {
    let part = |month: usize| {
        rows("visit_id,shop_id,at", 300, move |row| {
            format!(
                "V{month}-{row},S{:04},2024-{month:02}-{:02}",
                row % 60 + 1,
                row % 28 + 1
            )
        })
    };
    let files = [
        shops(),
        ("visits-2024-01.csv", part(1)),
        ("visits-2024-02.csv", part(2)),
    ];
    let (inferred, _) = inferred(&files);
    assert!(
        inferred.configuration.contains("file = \"visits*.csv\""),
        "{}",
        inferred.configuration
    );
}

#[test]
fn a_number_that_many_rows_share_is_no_key_and_codes_refer_by_value() {
    let code = |row: usize| {
        let letter = |n: usize| char::from(b'A' + (n % 26) as u8);
        format!("{}{}{}", letter(row / 26), letter(row), letter(row * 7))
    };
    let ports = rows("faa,name,lat", 100, |row| {
        format!("{},Port {row},4{row}.5", code(row))
    });
    let planes = rows("tailnum,seats", 160, |row| {
        format!("N{row:05},{}", row % 9 * 20)
    });
    let flights = rows("flight,tailnum,dest,time_hour", 4000, |row| {
        let (month, day) = day(row);
        let tail = row % 160 + 1;
        let dest = code(row % 40 + 1);
        format!(
            "{},N{tail:05},{dest},2024-{month:02}-{day:02}T{:02}:00:00Z",
            row % 50,
            row % 24
        )
    });
    let files = [
        ("airports.csv", ports),
        ("planes.csv", planes),
        ("flights.csv", flights),
    ];
    let (_, catalog) = inferred(&files);
    assert_eq!(role(&catalog, "flights"), "event");
    assert_eq!(role(&catalog, "airports"), "hub");
    assert_eq!(role(&catalog, "planes"), "root");
}

/// Ports, and flights of which all leave from three of them and go to all.
fn flights(per_day: usize) -> [(&'static str, String); 2] {
    let code = |row: usize| {
        let letter = |n: usize| char::from(b'A' + (n % 26) as u8);
        format!("{}{}Q", letter(row / 26), letter(row))
    };
    let ports = rows("faa,name", 60, |row| format!("{},Port {row}", code(row)));
    let flights = rows(
        "flight,plane_id,delay,origin,dest,departed",
        200 * per_day,
        |row| {
            let (day, number) = (row / per_day, row % per_day);
            // Some flights did not take off: neither plane nor delay.
            let (plane, delay) = match row % 50 {
                0 => ("NA".to_owned(), "NA"),
                _ => (format!("N{:04}", row % 700), "3"),
            };
            format!(
                "{number},{plane},{delay},{},{},2024-{:02}-{:02}T{:02}:00:00Z",
                code(row % 3 + 1),
                code(number % 60 + 1),
                day / 28 % 12 + 1,
                day % 28 + 1,
                number % 12
            )
        },
    );
    [("airports.csv", ports), ("flights.csv", flights)]
}

#[test]
fn of_two_references_to_one_table_the_telling_one_owns() {
    let (inferred, catalog) = inferred(&flights(90));
    let flights = catalog.table("flights").unwrap();
    let owners = flights
        .owners
        .iter()
        .map(|id| &flights.field_at(*id).name[..]);
    assert_eq!(owners.collect::<Vec<_>>(), ["dest"]);
    let text = &inferred.configuration;
    let key = "key = [\"flight\", \"origin\", \"dest\", \"departed\"]";
    assert!(text.contains(key), "{text}");
}

#[test]
fn where_nearly_all_come_back_the_first_task_asks_for_more_rows() {
    // Every port has one flight a day, those with even numbers a second one.
    let (inferred, _) = inferred(&flights(90));
    let text = &inferred.configuration;
    let busy = (
        inferred.task.as_deref(),
        text.contains(", days) > 0\nFOR EACH"),
    );
    assert_eq!(busy, (Some("airport-busy-30d"), false), "{text}");
    assert!(text.contains("so the task asks for more than 2"), "{text}");
    assert!(text.contains(": true for about 50 %"), "{text}");
}

#[test]
fn a_table_that_could_be_scored_as_well_is_named() {
    let buyers = rows("buyer_id,name", 60, |row| format!("B{row:04},Buyer {row}"));
    let sellers = rows("seller_id,name", 60, |row| {
        format!("X{row:04},Seller {row}")
    });
    let offers = rows("offer_id,seller_id,buyer_id,at", 900, |row| {
        let (month, day) = day(row);
        format!(
            "{row},X{:04},B{:04},2024-{month:02}-{day:02}",
            row % 60 + 1,
            row * 7 % 60 + 1
        )
    });
    let files = [
        ("buyers.csv", buyers),
        ("sellers.csv", sellers),
        ("offers.csv", offers),
    ];
    let (with_names, _) = inferred(&files);
    let text = &with_names.configuration;
    assert!(
        !text.contains("--root"),
        "a name of things that are scored decides:\n{text}"
    );
    let vendors = (
        files[0].1.replace("buyer", "vendor"),
        files[2].1.replace("buyer", "vendor"),
    );
    let files = [
        ("vendors.csv", vendors.0),
        files[1].clone(),
        ("offers.csv", vendors.1),
    ];
    let (without, _) = inferred(&files);
    let text = &without.configuration;
    assert!(
        text.contains(": --root sellers asks about them")
            || text.contains(": --root vendors asks about them"),
        "{text}"
    );
}

#[test]
fn orders_among_visits_are_what_the_first_task_asks_for() {
    let check = |kinds: &'static [&'static str], asked: &str| {
        let visits = rows("visit_id,shop_id,at,kind", 3000, |row| {
            let (month, day) = day(row);
            // A shop orders in some months.
            let kind = match (row % 60 + row / 240) % 7 {
                0 => kinds[0],
                other => kinds[1 + other % (kinds.len() - 1)],
            };
            format!(
                "V{row},S{:04},2024-{month:02}-{day:02} 10:30:00,{kind}",
                row % 60 + 1
            )
        });
        let (inferred, _) = inferred(&[shops(), ("visits.csv", visits)]);
        let text = &inferred.configuration;
        assert!(text.contains(asked), "{asked} is not in\n{text}");
    };
    check(
        &["order", "page", "quote"],
        "PREDICT COUNT(visits.* WHERE visits.kind = 'order', 0, ",
    );
    check(
        &["checkout_completed", "checkout_started", "view"],
        "PREDICT COUNT(visits.* WHERE visits.kind = 'checkout_completed', 0, ",
    );
    check(&["page", "quote", "demo"], "PREDICT COUNT(visits.*, 0, ");
}

#[test]
fn seasons_of_a_year_are_events_of_the_player_that_they_name() {
    let people = rows("ID,playerID,nameLast,birthYear", 60, |row| {
        format!("{row},ply{row:03}01,Name {row},{}", 1950 + row % 30)
    });
    let batting = rows("playerID,yearID,stint,HR", 400, |row| {
        format!(
            "ply{:03}01,{},1,{}",
            row % 60 + 1,
            1980 + row / 60,
            row % 40
        )
    });
    let files = [("People.csv", people), ("Batting.csv", batting)];
    let (inferred, catalog) = inferred(&files);
    let text = &inferred.configuration;
    assert_eq!(role(&catalog, "people"), "root");
    assert_eq!(role(&catalog, "batting"), "event");
    let root = catalog.root();
    assert_eq!(root.field_at(root.key).name, "player_id");
    assert_eq!(
        root.time, None,
        "the year of birth is not when a player became known"
    );
    assert!(text.contains("times = { year_id = \"%Y\" }"), "{text}");
    assert!(text.contains("lag = \"366d\""), "{text}");
    assert!(text.contains("# doubt: year_id names a period"), "{text}");
    assert!(inferred.task.is_some(), "{text}");
}

#[test]
fn months_are_times_and_their_rows_are_known_when_they_are_over() {
    let bills = rows("bill_id,shop_id,month,amount", 700, |row| {
        format!(
            "{row},S{:04},2024-{:02},{row}.5",
            row % 60 + 1,
            row % 12 + 1
        )
    });
    let (inferred, catalog) = inferred(&[shops(), ("bills.csv", bills)]);
    assert_eq!(role(&catalog, "bills"), "event");
    let text = &inferred.configuration;
    assert!(text.contains("times = { month = \"%Y-%m\" }"), "{text}");
    assert!(text.contains("lag = \"31d\""), "{text}");
}

#[test]
fn a_feed_of_machines_with_a_german_key_has_versions() {
    let machines = rows("Maschinen-Nr;Typ;Status;updated_at", 200, |row| {
        let state = ["aktiv", "Wartung"][row / 50 % 2];
        format!(
            "{};Motor;{state};2024-{:02}-01",
            1000 + row % 50,
            row / 50 + 1
        )
    });
    let readings = rows("Maschinen-Nr;Zeitpunkt;Wert", 900, |row| {
        let (month, day) = day(row);
        format!("{};2024-{month:02}-{day:02} 08:00;{row},5", 1000 + row % 50)
    });
    let files = [("Maschinen.csv", machines), ("Messungen.csv", readings)];
    let (inferred, catalog) = inferred(&files);
    assert_eq!(role(&catalog, "maschinen"), "root");
    assert_eq!(role(&catalog, "messungen"), "event");
    assert!(
        inferred.summary[0].contains("maschinen_nr (several versions)"),
        "{:?}",
        inferred.summary
    );
}

#[test]
fn seconds_since_1970_are_times_by_the_name_of_their_column() {
    let logs = rows("shop_id,epoch,minutes", 500, |row| {
        format!(
            "S{:04},{},{}",
            row % 60 + 1,
            1_700_000_000 + 7919 * row,
            row % 9
        )
    });
    let (inferred, catalog) = inferred(&[shops(), ("logs.csv", logs)]);
    assert_eq!(role(&catalog, "logs"), "event");
    let text = &inferred.configuration;
    assert!(text.contains("times = { epoch = \"seconds\" }"), "{text}");
}
