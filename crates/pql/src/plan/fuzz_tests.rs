//! No text makes reading or planning panic, and what has a plan means the same when its plan's text
//! is read again.

use proptest::prelude::*;

use crate::plan::docs;
use crate::plan::market::{catalog, names, planned};
use crate::syntax::diagnostic::Diagnostic;
use crate::syntax::samples;
use crate::{parse, plan};

/// A fault lies within its text and can be shown.
fn check_fault(fault: &Diagnostic, source: &str) {
    let text = fault
        .within
        .as_ref()
        .map_or(source, |within| within.text.as_str());
    assert!(
        fault.span.start <= fault.span.end && fault.span.end as usize <= text.len(),
        "{source}: {fault}"
    );
    assert!(
        fault.line >= 1 && fault.column >= 1 && !fault.message.is_empty() && !fault.hint.is_empty(),
        "{source}: {fault}"
    );
    assert!(fault.render(source).contains("Help: "), "{source}: {fault}");
}

/// Reads, prints and plans a text as far as it goes.
fn check(source: &str) {
    let query = match parse(source) {
        Ok(query) => query,
        Err(fault) => return check_fault(&fault, source),
    };
    assert_eq!(
        parse(&query.to_string()).unwrap_or_else(|fault| panic!("{}", fault.render(source))),
        query,
        "{source}"
    );
    let (catalog, names) = (catalog(), names());
    match plan(&query, &catalog, &names) {
        Ok(planned) => {
            let again = parse(&planned.text).and_then(|query| plan(&query, &catalog, &names));
            let again = again.unwrap_or_else(|fault| panic!("{}", fault.render(&planned.text)));
            assert_eq!(
                (&again.text, &again.target, &again.population),
                (&planned.text, &planned.target, &planned.population),
                "{source}"
            );
            assert!(planned.describe(&catalog).len() >= 3);
        }
        Err(fault) => check_fault(&fault, source),
    }
}

/// A change of a text: how far in, how much goes, what comes instead.
type Edit = (prop::sample::Index, usize, Option<&'static str>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let instead = prop_oneof![1 => Just(None), 2 => samples::word().prop_map(Some)];
    prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, instead), 1..4)
}

proptest! {
    #[test]
    fn valid_queries_with_letters_changed(source in prop::sample::select(docs::queries()), edits in edits()) {
        let mut text: Vec<char> = source.chars().collect();
        for (place, gone, instead) in edits {
            let from = place.index(text.len() + 1);
            let to = (from + gone).min(text.len());
            text.splice(from..to, instead.unwrap_or_default().chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn valid_queries_with_words_changed(source in prop::sample::select(docs::queries()), edits in edits()) {
        let mut words: Vec<&str> = source.split_inclusive([' ', '(', ')', ',', '.', '\n']).collect();
        for (place, gone, instead) in edits {
            let from = place.index(words.len() + 1);
            let to = (from + gone.min(2)).min(words.len());
            words.splice(from..to, instead.into_iter().flat_map(|word| [" ", word, " "]));
        }
        check(&words.concat());
    }

    #[test]
    fn words_of_the_language_and_the_schemas(words in prop::collection::vec(prop_oneof![2 => samples::word(), 3 => samples::schema_word()], 0..30)) {
        check(&format!("PREDICT {}", words.join(" ")));
        check(&words.join(" "));
    }

    #[test]
    fn any_text(text in "\\PC{0,80}") {
        check(&text);
    }

    #[test]
    fn any_query(query in samples::query()) {
        check(&query.to_string());
    }
}

#[test]
fn the_changes_start_from_queries_that_have_plans() {
    let queries = docs::queries();
    let with_plans = queries
        .iter()
        .filter(|query| planned(query).is_ok())
        .count();
    assert!(
        with_plans * 3 > queries.len(),
        "{with_plans} of {}",
        queries.len()
    );
}
