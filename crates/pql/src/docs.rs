//! Every query of `docs/pql.md` parses, prints, and plans against the shipped schemas.

use std::collections::BTreeMap;
use std::path::Path;

use leadpulse_schema::Catalog;

use crate::{parse, plan};

const PAGE: &str = include_str!("../../../docs/pql.md");

/// The contents of the page's code blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(fence.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

#[test]
fn the_queries_of_the_manual_run() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let catalog = Catalog::load(&schemas).unwrap_or_else(|faults| panic!("{faults:?}"));
    let names: BTreeMap<String, String> = blocks("toml")[0]
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, text)| (name.to_owned(), text.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(names.len(), 3);
    let queries = blocks("pql");
    assert!(queries.len() >= 13, "{}", queries.len());
    for source in queries {
        let query = parse(source).unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert_eq!(parse(&query.to_string()).as_ref().ok(), Some(&query));
        let planned = plan(&query, &catalog, &names).unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert!(planned.horizon_ms > 0 && !planned.target.aggregates.is_empty());
    }
}
