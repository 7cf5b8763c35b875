//! What became of the rows of a history: read, accepted, refused, and what did not fit.

use std::collections::BTreeSet;

use leadpulse_graph::{Graph, Outsiders, RowOutcome, SharedDomain};
use leadpulse_history::{FileReport, Files};
use leadpulse_schema::{Catalog, ReferenceFit, Row, RowFit, TableId, ValueFit, utc};

/// The rows of one file. A walk that ends before the history does has not given the graph all of
/// the usable ones.
#[derive(Clone, Debug)]
pub struct FileRows {
    /// What became of them while the file was read.
    pub read: FileReport,
    /// Rows that are in the graph.
    pub accepted: u64,
    /// Repeats of an event or of a deletion.
    pub duplicate: u64,
    /// Events older than their file's newest by more than the late horizon.
    pub late: u64,
    /// Rows further ahead of their known time than tolerated.
    pub future: u64,
    /// Rows that change nothing for another reason: a version older than the newest, a deletion of
    /// what nobody described.
    pub other: u64,
}

/// What became of the rows of a history, and what in them did not fit.
#[derive(Clone, Debug)]
pub struct DataReport {
    /// Per file, in the order of the sources.
    pub files: Vec<FileRows>,
    /// How many references find their target, by table and field.
    pub references: Vec<ReferenceFit>,
    /// How many values are declared, by table and field.
    pub values: Vec<ValueFit>,
    /// Sentences about what is likely a mistake of a file, a schema or a setting.
    pub remarks: Vec<String>,
}

/// Counts while a walk applies rows.
#[derive(Clone, Debug)]
pub(crate) struct RowCounts {
    outcomes: Vec<[u64; RowOutcome::ALL.len()]>,
    fit: RowFit,
    /// The earliest time at which a row with a time was known, milliseconds.
    earliest_ms: i64,
    /// Tables with rows that have no time.
    timeless: BTreeSet<TableId>,
}

impl RowCounts {
    pub(crate) fn new(catalog: &Catalog, files: &Files) -> Self {
        RowCounts {
            outcomes: vec![Default::default(); files.reports().len()],
            fit: RowFit::new(catalog),
            earliest_ms: i64::MAX,
            timeless: BTreeSet::new(),
        }
    }

    /// Counts a row that the graph was given.
    pub(crate) fn add(&mut self, catalog: &Catalog, row: Row<'_>, outcome: RowOutcome) {
        self.outcomes[row.position().partition as usize][outcome as usize] += 1;
        self.fit.observe(catalog, row);
        if catalog.table_at(row.table()).time.is_some() || row.has_own_known_time() {
            self.earliest_ms = self.earliest_ms.min(row.known_ms());
        } else {
            self.timeless.insert(row.table());
        }
    }

    pub(crate) fn report(&self, files: &Files, graph: &Graph) -> DataReport {
        let catalog = graph.catalog();
        let rows = files.reports().iter().zip(&self.outcomes);
        let rows = rows.map(|(read, outcomes)| file_rows(read, outcomes));
        let mut remarks = Vec::new();
        for report in files.reports() {
            let settings = report.remarks.iter().filter(|remark| remark.is_setting);
            let file = report.path.display();
            remarks.extend(settings.map(|remark| format!("{file}: {}", remark.text)));
        }
        remarks.extend(self.timeless_remark(catalog));
        remarks.extend(self.fit.remarks(catalog, true));
        remarks.extend(domain_remark(&graph.shared_domains(), &catalog.root().name));
        remarks.extend(burst_remark(graph));
        remarks.extend(outsider_remark(&graph.outsiders(), &catalog.root().name));
        DataReport {
            files: rows.collect(),
            references: self.fit.references(),
            values: self.fit.values(),
            remarks,
        }
    }
}

impl RowCounts {
    /// A sentence about rows without a time beside rows that were known before them.
    fn timeless_remark(&self, catalog: &Catalog) -> Option<String> {
        if self.timeless.is_empty() || self.earliest_ms >= 0 {
            return None;
        }
        let tables = self.timeless.iter();
        let tables: Vec<&str> = tables
            .map(|table| catalog.table_at(*table).name.as_str())
            .collect();
        Some(format!(
            "rows of {} have no time and count as known from 1970 on, but the history begins at \
             {}: before 1970 nothing is known of them; give the table a time field, or its source \
             a known_time",
            tables.join(", "),
            utc(self.earliest_ms)
        ))
    }
}

/// A sentence about domains that several roots share, if members were matched by any.
fn domain_remark(shared: &[SharedDomain], roots: &str) -> Option<String> {
    let used: Vec<&SharedDomain> = shared.iter().filter(|domain| domain.members > 0).collect();
    let first = used.first()?;
    let members: usize = used.iter().map(|domain| domain.members).sum();
    Some(format!(
        "{} domains are named by several rows of {roots}, and all {members} members that were \
         matched by one belong to one row of each: of {:?} ({}) it is {:?} with {} \
         members; give members their owner, set graph.match_by, or give the others a domain of \
         their own",
        used.len(),
        first.domain,
        first.roots.join(", "),
        first.taken_by,
        first.members
    ))
}

/// A sentence about the events of scanners, if there are any.
fn burst_remark(graph: &Graph) -> Option<String> {
    let events = graph.identity().burst_events;
    let limit = graph.shared().options.burst_events;
    (events > 0).then(|| {
        format!(
            "{events} events came in bursts, {limit} or more of one campaign and mail domain within \
             ten seconds, as mail scanners make them; they count as no engagement \
             (graph.burst_events)"
        )
    })
}

/// A sentence about members that count nowhere, and about roots with such a domain.
fn outsider_remark(outsiders: &Outsiders, roots: &str) -> Option<String> {
    let Outsiders {
        own,
        competitors,
        events,
        roots: named,
    } = outsiders;
    if own + competitors == 0 && named.is_empty() {
        return None;
    }
    let mut text = format!(
        "{own} members with an address of graph.own_domains and {competitors} with one of \
         graph.competitor_domains count nowhere, nor do their {events} events"
    );
    if let Some(first) = named.first() {
        text += &format!(
            "; {} rows of {roots} name such a domain and are scored like others (first: {first:?})",
            named.len()
        );
    }
    Some(text)
}

fn file_rows(read: &FileReport, outcomes: &[u64; RowOutcome::ALL.len()]) -> FileRows {
    let mut rows = FileRows {
        read: read.clone(),
        accepted: 0,
        duplicate: 0,
        late: 0,
        future: read.future,
        other: 0,
    };
    for outcome in RowOutcome::ALL {
        let count = match outcome {
            RowOutcome::Accepted | RowOutcome::SteppedBack | RowOutcome::InPart => {
                &mut rows.accepted
            }
            RowOutcome::Duplicate => &mut rows.duplicate,
            RowOutcome::Late => &mut rows.late,
            RowOutcome::Future => &mut rows.future,
            RowOutcome::NothingToDelete | RowOutcome::StaleVersion | RowOutcome::Erased => {
                &mut rows.other
            }
        };
        *count += outcomes[outcome as usize];
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_time_beside_an_older_history_are_remarked() {
        let accounts = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
            {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
        let members = r#"{"type":"record","name":"M","leadpulse":{"table":"people","role":"member"},"fields":[
            {"name":"id","type":"string","leadpulse":{"key":true}},
            {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;
        let catalog = Catalog::from_json(&[("a", accounts), ("m", members)]).unwrap();
        let remark = |earliest_ms: i64| {
            let counts = RowCounts {
                outcomes: Vec::new(),
                fit: RowFit::new(&catalog),
                earliest_ms,
                timeless: [catalog.root().id].into(),
            };
            counts.timeless_remark(&catalog)
        };
        let found = remark(-86_400_000).unwrap();
        assert!(found.contains("rows of accounts have no time"), "{found}");
        assert!(found.contains("1969-12-31"), "{found}");
        assert_eq!(remark(0), None);
        assert_eq!(remark(i64::MAX), None);
    }
}
