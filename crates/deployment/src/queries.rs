//! The planner of queries behind `POST /api/v1/query`.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_pql::{Diagnostic, parse, plan};
use leadpulse_schema::Catalog;
use leadpulse_server::{NamedText, PlannedQuery, QueryFault, QueryPlanner, QueryRemark};

/// The schemas and named targets of a configuration.
pub(crate) struct CatalogPlanner {
    pub catalog: Arc<Catalog>,
    /// Name → target in PQL.
    pub targets: BTreeMap<String, String>,
}

impl QueryPlanner for CatalogPlanner {
    fn plan(&self, text: &str) -> Result<PlannedQuery, Box<QueryFault>> {
        let fault = |diagnostic: Diagnostic| Box::new(fault_of(diagnostic, text));
        let query = parse(text).map_err(fault)?;
        let plan = plan(&query, &self.catalog, &self.targets).map_err(fault)?;
        let remarks = plan.lints.iter().map(|lint| QueryRemark {
            message: lint.message.clone(),
            hint: lint.hint.clone(),
        });
        Ok(PlannedQuery {
            entity: self.catalog.table_at(plan.entity).name.clone(),
            horizon_ms: plan.horizon_ms,
            meaning: plan.describe(&self.catalog),
            remarks: remarks.collect(),
            text: plan.text,
        })
    }
}

fn fault_of(diagnostic: Diagnostic, query: &str) -> QueryFault {
    let within = diagnostic.within.as_deref();
    let text = within.map_or(query, |within| &within.text);
    let place = diagnostic.span.start as usize..diagnostic.span.end as usize;
    QueryFault {
        length: text.get(place).map_or(0, |wrong| wrong.chars().count()),
        line: diagnostic.line,
        column: diagnostic.column,
        target: within.map(|within| NamedText {
            name: within.name.clone(),
            text: within.text.clone(),
        }),
        message: diagnostic.message,
        hint: diagnostic.hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A planner for tables that no CRM has.
    fn planner() -> CatalogPlanner {
        let wells = r#"{"type": "record", "name": "Well",
            "leadpulse": {"table": "wells", "role": "root"},
            "fields": [{"name": "well_id", "type": "string", "leadpulse": {"key": true}}]}"#;
        let leaks = r#"{"type": "record", "name": "Leak",
            "leadpulse": {"table": "leaks", "role": "event"},
            "fields": [
                {"name": "leak_id", "type": "string", "leadpulse": {"key": true}},
                {"name": "well_id", "type": "string", "leadpulse": {"ref": "wells", "owner": true}},
                {"name": "seen_at", "type": {"type": "long", "logicalType": "timestamp-millis"},
                 "leadpulse": {"time": true}}]}"#;
        let schemas = [("wells.avsc", wells), ("leaks.avsc", leaks)];
        CatalogPlanner {
            catalog: Arc::new(Catalog::from_json(&schemas).unwrap()),
            targets: [("leaky", "COUNT(leeks.*, 0, 30, days) > 0")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
        }
    }

    #[test]
    fn a_query_is_planned_in_the_words_of_its_schemas() {
        let text = "predict count(leaks.*, 0, 30, days) > 0 for each wells.well_id";
        let planned = planner().plan(text).expect("the query is right");
        assert_eq!(planned.entity, "wells");
        assert_eq!(planned.horizon_ms, 30 * 86_400_000);
        assert!(planned.text.starts_with("PREDICT COUNT(leaks.*"));
        assert!(planned.meaning.iter().any(|line| line.contains("leaks")));
    }

    #[test]
    fn a_fault_has_its_place_in_characters() {
        let text = "PREDICT COUNT(leaks.* WHERE leaks.leak_id = 'Öl', 0, 30, days) > 0\n\
                    FOR EACH walls.well_id WHERE walls.well_id = 'Öl'";
        let fault = planner().plan(text).expect_err("there is no such table");
        let line = text.lines().nth(fault.line as usize - 1).unwrap();
        let marked = line.chars().skip(fault.column as usize - 1);
        let marked: String = marked.take(fault.length).collect();
        assert!(marked.starts_with("walls"), "{marked}: {fault:?}");
        assert_eq!(fault.target, None);
    }

    #[test]
    fn a_fault_of_a_named_target_shows_the_text_of_the_target() {
        let fault = planner().plan("PREDICT leaky FOR EACH wells.well_id");
        let target = fault.expect_err("the target is wrong").target;
        assert_eq!(target.expect("the place is in it").name, "leaky");
    }
}
