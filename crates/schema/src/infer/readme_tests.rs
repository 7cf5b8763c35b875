//! The example of README.md is what `init` writes from such files.

use std::fs;

use tempfile::TempDir;

use super::infer;
use crate::catalog::Catalog;

/// Shops, their buyers, and two years of visits: the files of README.md, longer.
fn example_files() -> [(&'static str, String); 4] {
    let mut shops = "shop_id,name,city,opened_at\n".to_owned();
    let mut buyers = "buyer_id,shop_id,job,known_since\n".to_owned();
    for number in 1..=60 {
        let city = ["Bern", "Basel", "Genf"][number % 3];
        let opened = format!("2022-{:02}-{:02}", number % 12 + 1, number % 28 + 1);
        shops.push_str(&format!("S{number:03},Shop {number},{city},{opened}\n"));
        for buyer in 0..3 {
            let (id, job) = (3 * number + buyer, ["owner", "clerk"][buyer % 2]);
            buyers.push_str(&format!("B{id:04},S{number:03},{job},2022-12-01\n"));
        }
    }
    let visits = |year: i64| {
        let mut lines = String::new();
        for number in 0..6_000 {
            let (month, day, buyer) = (number / 500 + 1, number % 28 + 1, number * 7 % 180 + 3);
            // A shop orders in some months.
            let kind = match (buyer / 3 + month) % 5 {
                0 if number % 3 == 0 => "order",
                1 => "quote",
                _ => "page",
            };
            let amount = if kind == "order" { "120.5" } else { "null" };
            lines.push_str(&format!(
                "{{\"visit_id\":\"V{year}-{number}\",\"at\":\"{year}-{month:02}-{day:02}T09:30:00Z\",\
                 \"buyer_id\":\"B{buyer:04}\",\"kind\":\"{kind}\",\"amount\":{amount}}}\n"
            ));
        }
        lines
    };
    [
        ("shops.csv", shops),
        ("buyers.csv", buyers),
        ("visits-2023.jsonl", visits(2023)),
        ("visits-2024.jsonl", visits(2024)),
    ]
}

#[test]
fn the_example_of_the_readme_is_written_by_init() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut paths = Vec::new();
    for (name, text) in example_files() {
        fs::write(data.join(name), text).unwrap();
        paths.push(data.join(name));
    }
    let inferred = infer(&paths, None).unwrap();
    let schemas: Vec<(&str, &str)> = inferred
        .schemas
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Catalog::from_json(&schemas).unwrap();

    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mut expected = format!("```toml\n{}```\n", inferred.configuration);
    for (_, text) in &inferred.schemas {
        expected.push_str(&format!("```json\n{text}```\n"));
    }
    expected.push_str(&inferred.summary.join("\n"));
    let is_there = |block: &str| readme.contains(block);
    let are_there = inferred.summary.iter().all(|line| is_there(line))
        && inferred.schemas.iter().all(|(_, text)| is_there(text))
        && is_there(&inferred.configuration);
    assert!(are_there, "README.md is to contain:\n{expected}");
}
