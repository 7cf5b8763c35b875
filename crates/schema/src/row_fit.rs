//! What rows say about each other: references that find nobody, and values that no schema declares.
//!
//! Names that do not meet (`001A…` in one file, `001a…` in another; `78971951.0` beside `78971951`)
//! lose no row and raise no error: events hang on entities that nobody described, and labels come
//! out too few. So every command that reads many rows counts them here and tells the shares.
//!
//! Memory: 8 bytes for each known key, about 16 for each key that a reference names.

use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{Catalog, FieldId, Role, TableId};
use crate::row::{Operation, Row, Value};

/// Keys of a reference of which the text is kept, to show one that found nobody.
const MOST_SAMPLES: usize = 1000;
/// Different undeclared values of a field that are counted.
const MOST_VALUES: usize = 1000;
/// Share of rows without their target above which a reference is worth a remark.
const MANY_LOST: f64 = 0.05;
/// Share of undeclared values above which a field is worth a remark.
const MANY_UNDECLARED: f64 = 0.2;

/// Counts over rows of all tables, in any order.
#[derive(Clone, Debug)]
pub struct RowFit {
    /// Per table: hashes of the keys that a row described.
    known: Vec<FxHashSet<u64>>,
    /// Per table: the number of its rows.
    rows: Vec<u64>,
    references: Vec<ReferenceCount>,
    values: Vec<ValueCount>,
    currencies: Vec<CurrencyCount>,
}

#[derive(Clone, Debug)]
struct ReferenceCount {
    from: (TableId, FieldId),
    target: TableId,
    /// Rows by the hash of the key they name.
    named: FxHashMap<u64, u64>,
    samples: Vec<(u64, String)>,
}

#[derive(Clone, Debug)]
struct ValueCount {
    of: (TableId, FieldId),
    rows: u64,
    undeclared: u64,
    by_value: FxHashMap<String, u64>,
}

/// Currencies beside an amount that nothing converts.
#[derive(Clone, Debug)]
struct CurrencyCount {
    amount: (TableId, FieldId),
    currency: FieldId,
    by_code: FxHashMap<String, u64>,
}

/// The fit of a reference: how many of the rows that name an entity find it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceFit {
    pub table: TableId,
    pub field: FieldId,
    /// The table referred to.
    pub target: TableId,
    /// The number of keys named by rows; a list counts each of its keys.
    pub named: u64,
    /// Those of `named` that a row of the target describes.
    pub found: u64,
    /// A key that none describes.
    pub lost_example: Option<String>,
    /// Whether any row of the target was read.
    pub has_target_rows: bool,
}

impl ReferenceFit {
    /// The share that finds its target, from 0 to 1; 1 where nothing is named.
    pub fn share(&self) -> f64 {
        if self.named == 0 {
            1.0
        } else {
            self.found as f64 / self.named as f64
        }
    }
    /// Whether so many are lost that the names may be written differently.
    pub fn is_poor(&self) -> bool {
        1.0 - self.share() > MANY_LOST
    }
}

/// The fit of a field with declared values.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueFit {
    pub table: TableId,
    pub field: FieldId,
    /// The number of values read, null excepted.
    pub rows: u64,
    /// Those of `rows` that the schema does not declare.
    pub undeclared: u64,
    /// The commonest of them, and how often it stands.
    pub commonest: Option<(String, u64)>,
}

impl ValueFit {
    /// The share that is not declared, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.undeclared as f64 / self.rows.max(1) as f64
    }
    /// Whether so many are undeclared that the schema may mean other words.
    pub fn is_poor(&self) -> bool {
        self.share() > MANY_UNDECLARED
    }
}

impl RowFit {
    /// Nothing counted yet.
    pub fn new(catalog: &Catalog) -> Self {
        let mut fit = RowFit {
            known: vec![FxHashSet::default(); catalog.tables.len()],
            rows: vec![0; catalog.tables.len()],
            references: Vec::new(),
            values: Vec::new(),
            currencies: Vec::new(),
        };
        for table in &catalog.tables {
            let unconverted = table.amounts().filter(|_| table.rates.is_none());
            fit.currencies
                .extend(unconverted.map(|(amount, currency)| CurrencyCount {
                    amount: (table.id, amount.id),
                    currency,
                    by_code: FxHashMap::default(),
                }));
            for field in &table.fields {
                let of = (table.id, field.id);
                let hub_table = field
                    .hub
                    .and_then(|hub| catalog.hubs[usize::from(hub.0)].table);
                let target = field.reference.map(|to| to.table).or(hub_table);
                if let Some(target) = target {
                    fit.references.push(ReferenceCount {
                        from: of,
                        target,
                        named: FxHashMap::default(),
                        samples: Vec::new(),
                    });
                } else if !field.values.is_empty() {
                    fit.values.push(ValueCount {
                        of,
                        rows: 0,
                        undeclared: 0,
                        by_value: FxHashMap::default(),
                    });
                }
            }
        }
        fit
    }

    /// Counts a row. Deletions, retractions and gaps say nothing.
    pub fn observe(&mut self, catalog: &Catalog, row: Row<'_>) {
        if row.operation() != Operation::Upsert {
            return;
        }
        let table = row.table();
        self.rows[table.index()] += 1;
        self.known[table.index()].insert(xxh3_64(row.key().as_bytes()));
        for reference in &mut self.references {
            if reference.from.0 == table && !row.is_unchanged(reference.from.1) {
                match row.get(reference.from.1) {
                    Value::Text(key) => reference.add(key),
                    Value::List(keys) => keys.iter().for_each(|key| reference.add(key)),
                    _ => {}
                }
            }
        }
        self.observe_currencies(row);
        for count in &mut self.values {
            if count.of.0 == table && !row.is_unchanged(count.of.1) {
                let declared = &catalog.table_at(table).field_at(count.of.1).values;
                match row.get(count.of.1) {
                    Value::Text(value) => count.add(declared, value),
                    Value::List(values) => values.iter().for_each(|v| count.add(declared, v)),
                    _ => {}
                }
            }
        }
    }

    /// Counts the currencies of a row's amounts, where nothing converts them.
    fn observe_currencies(&mut self, row: Row<'_>) {
        for count in &mut self.currencies {
            let (table, amount) = count.amount;
            if table != row.table() || !matches!(row.get(amount), Value::Double(_)) {
                continue;
            }
            let Value::Text(code) = row.get(count.currency) else {
                continue;
            };
            if let Some(rows) = count.by_code.get_mut(code) {
                *rows += 1;
            } else if !code.is_empty() && count.by_code.len() < MOST_VALUES {
                count.by_code.insert(code.to_owned(), 1);
            }
        }
    }

    /// The fit of every reference that a row used, by table and field.
    pub fn references(&self) -> Vec<ReferenceFit> {
        let used = self.references.iter().filter(|r| !r.named.is_empty());
        used.map(|reference| {
            let known = &self.known[reference.target.index()];
            let found = reference
                .named
                .iter()
                .filter(|(key, _)| known.contains(key));
            let is_lost = |(key, _): &&(u64, String)| !known.contains(key);
            ReferenceFit {
                table: reference.from.0,
                field: reference.from.1,
                target: reference.target,
                named: reference.named.values().sum(),
                found: found.map(|(_, rows)| rows).sum(),
                lost_example: reference
                    .samples
                    .iter()
                    .find(is_lost)
                    .map(|(_, key)| key.clone()),
                has_target_rows: self.rows[reference.target.index()] > 0,
            }
        })
        .collect()
    }

    /// The fit of every field with declared values that a row fed, by table and field.
    pub fn values(&self) -> Vec<ValueFit> {
        let fed = self.values.iter().filter(|count| count.rows > 0);
        fed.map(|count| {
            // The smallest of equally common ones, so that a report is a function of its rows.
            let commonest = count
                .by_value
                .iter()
                .max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
            ValueFit {
                table: count.of.0,
                field: count.of.1,
                rows: count.rows,
                undeclared: count.undeclared,
                commonest: commonest.map(|(value, rows)| (value.clone(), *rows)),
            }
        })
        .collect()
    }

    /// Sentences about what is likely a mistake: references that often find nobody, fields whose
    /// values are often undeclared, and amounts of several currencies that nothing converts. `is_whole` says that the rows of all tables were read: only
    /// then is a table without a row worth a sentence.
    pub fn remarks(&self, catalog: &Catalog, is_whole: bool) -> Vec<String> {
        let references = self.references();
        // Keys of staff are good enough without rows: they are taken at their word.
        let is_staff = |table| catalog.table_at(table).role == Role::Staff;
        let is_worth = |fit: &&ReferenceFit| {
            let may_lack_rows = !is_whole || is_staff(fit.target);
            fit.is_poor() && (fit.has_target_rows || !may_lack_rows)
        };
        let lost = references.iter().filter(is_worth);
        let values = self.values();
        let undeclared = values.iter().filter(|fit| fit.is_poor());
        let mixed = self
            .currencies
            .iter()
            .filter(|count| count.by_code.len() > 1);
        lost.map(|fit| reference_remark(catalog, fit))
            .chain(undeclared.map(|fit| value_remark(catalog, fit)))
            .chain(mixed.map(|count| currency_remark(catalog, count)))
            .collect()
    }
}

impl ReferenceCount {
    fn add(&mut self, key: &str) {
        if key.is_empty() {
            return;
        }
        let hash = xxh3_64(key.as_bytes());
        let rows = self.named.entry(hash).or_insert(0);
        *rows += 1;
        if *rows == 1 && self.samples.len() < MOST_SAMPLES {
            self.samples.push((hash, key.to_owned()));
        }
    }
}

impl ValueCount {
    fn add(&mut self, declared: &[String], value: &str) {
        self.rows += 1;
        if declared.iter().any(|known| known == value) {
            return;
        }
        self.undeclared += 1;
        if let Some(rows) = self.by_value.get_mut(value) {
            *rows += 1;
        } else if self.by_value.len() < MOST_VALUES {
            self.by_value.insert(value.to_owned(), 1);
        }
    }
}

fn reference_remark(catalog: &Catalog, fit: &ReferenceFit) -> String {
    let table = catalog.table_at(fit.table);
    let field = &table.field_at(fit.field).name;
    let target = &catalog.table_at(fit.target).name;
    let (table, lost) = (&table.name, fit.named - fit.found);
    let example = fit.lost_example.as_deref().unwrap_or_default();
    let is_root = catalog.table_at(fit.target).role == Role::Root;
    if fit.has_target_rows {
        // A file may describe a part of the roots only, which is no mistake.
        let exists = match is_root {
            true => {
                "it exists from its first mention, without fields; where it should have a row, "
            }
            false => "",
        };
        format!(
            "{table}.{field}: {lost} of {} references find nobody: {target} has no row with the key \
             {example:?}, for example; {exists}compare how keys are written in both",
            fit.named
        )
    } else {
        let exist = match is_root {
            true => "; each exists from its first mention, without fields",
            false => "",
        };
        format!(
            "{table}.{field}: {lost} of {} references name a row of {target}, of which no row was \
             sent{exist}",
            fit.named
        )
    }
}

fn currency_remark(catalog: &Catalog, count: &CurrencyCount) -> String {
    const SHOWN: usize = 4;
    let table = catalog.table_at(count.amount.0);
    let mut codes: Vec<(&String, &u64)> = count.by_code.iter().collect();
    // By rows, then by name: a report is a function of its rows.
    codes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let shown = codes.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|(code, rows)| format!("{code} ({rows})"))
        .collect();
    format!(
        "{}.{}: amounts of {} currencies count as if they were of one: {}; give base and rates of \
         [currency] in leadpulse.toml",
        table.name,
        table.field_at(count.amount.1).name,
        codes.len(),
        shown.join(", ")
    )
}

fn value_remark(catalog: &Catalog, fit: &ValueFit) -> String {
    let table = catalog.table_at(fit.table);
    let field = &table.field_at(fit.field).name;
    let (value, rows) = fit.commonest.clone().unwrap_or_default();
    format!(
        "{}.{field}: {} of {} values are not among the declared ones, most often {value:?} ({rows} \
         times); declare them in the schema, or correct the source",
        table.name, fit.undeclared, fit.rows
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Position, RowBatch};

    const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
    const PEOPLE: &str = r#"{"type":"record","name":"Person","leadpulse":{"table":"people","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"accounts","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"ref":"accounts"}},
      {"name":"level","type":["null","string"],"default":null,"leadpulse":{"values":["ic","vp"]}},
      {"name":"home","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}}]}"#;

    fn catalog() -> Catalog {
        Catalog::from_json(&[("accounts.avsc", ACCOUNTS), ("people.avsc", PEOPLE)])
            .expect("the schemas are valid")
    }

    fn fit(catalog: &Catalog, accounts: &[&str], people: &[(&str, &[&str], &str)]) -> RowFit {
        let (mut batch, mut fit) = (RowBatch::new(), RowFit::new(catalog));
        let position = Position::default();
        let table = catalog.table("people").expect("declared");
        for (key, owners, level) in people {
            let mut row = batch.start(catalog, table.id, Operation::Upsert, position, 0);
            row.set(FieldId(0), Value::Text(key));
            row.set_list(FieldId(1), owners.iter().copied());
            if !level.is_empty() {
                row.set(FieldId(2), Value::Text(level));
            }
            row.finish();
        }
        let table = catalog.table("accounts").expect("declared");
        for key in accounts {
            let mut row = batch.start(catalog, table.id, Operation::Upsert, position, 0);
            row.set(FieldId(0), Value::Text(key));
            row.finish();
        }
        batch.iter().for_each(|row| fit.observe(catalog, row));
        fit
    }

    #[test]
    fn references_count_each_key_they_name_whenever_its_row_comes() {
        let catalog = catalog();
        let people: [(&str, &[&str], &str); 3] = [
            ("p1", &["a1", "a2"], "vp"),
            ("p2", &["a1"], ""),
            ("p3", &[], ""),
        ];
        let counted = fit(&catalog, &["a1"], &people);
        let references = counted.references();
        assert_eq!(references.len(), 1);
        assert_eq!((references[0].named, references[0].found), (3, 2));
        assert_eq!(references[0].lost_example.as_deref(), Some("a2"));
        let remarks = counted.remarks(&catalog, true);
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].starts_with("people.accounts: 1 of 3 references find nobody"));
        assert!(remarks[0].contains("it exists from its first mention"));
        assert!(
            fit(&catalog, &["a1", "a2"], &people)
                .remarks(&catalog, true)
                .is_empty()
        );
        assert!(fit(&catalog, &[], &people).remarks(&catalog, true)[0].contains("no row was sent"));
        let one_file = fit(&catalog, &[], &people).remarks(&catalog, false);
        assert!(one_file.is_empty(), "{one_file:?}");
    }

    #[test]
    fn undeclared_values_are_told_with_the_commonest() {
        let catalog = catalog();
        let people: [(&str, &[&str], &str); 4] = [
            ("p1", &[], "vp"),
            ("p2", &[], "Manager"),
            ("p3", &[], "Director"),
            ("p4", &[], "Manager"),
        ];
        let counted = fit(&catalog, &[], &people);
        let values = counted.values();
        assert_eq!((values[0].rows, values[0].undeclared), (4, 3));
        assert_eq!(values[0].commonest, Some(("Manager".to_owned(), 2)));
        assert!(counted.remarks(&catalog, false)[0].contains("most often \"Manager\" (2 times)"));
        let declared = fit(&catalog, &[], &[("p1", &[], "ic"), ("p2", &[], "")]);
        assert!(declared.remarks(&catalog, true).is_empty());
    }
}
