//! Schemas of inferred tables: a record per table, a line per field.

use serde_json::{Map, Value as Json, json};

use super::links::{Key, Link, singular};
use super::profile::{Column, Kind, TableProfile, named_like_code};
use super::roles::{Graph, is_email, is_label, is_site};
use super::task::Outcome;
use crate::catalog::Role;
use crate::draft::camel_case;

/// Values of a category that get a slot of their own.
const DECLARED_VALUES: usize = 64;
/// Categories of an entity whose rows are neighbours when they share a value, by name.
const NEIGHBOURS: [&str; 10] = [
    "industry",
    "sector",
    "city",
    "region",
    "country",
    "segment",
    "state",
    "territory",
    "branch",
    "market",
];

/// A table's schema, with what the configuration has to say about it.
pub(super) struct TableSchema {
    /// The text of the schema file.
    pub(super) text: String,
    /// Columns in the files → field, where the two differ.
    pub(super) columns: Vec<(String, String)>,
    /// Field → value of `times`.
    pub(super) times: Vec<(String, String)>,
    /// The column with the time at which a row became known.
    pub(super) known_time: Option<String>,
    /// The time after which a row is known, such as `31d` where rows name a month.
    pub(super) lag: Option<String>,
    /// The column that marks a row as deleted.
    pub(super) deleted: Option<String>,
    /// Columns that identify a row together; `@row` for all of them.
    pub(super) key: Option<Vec<String>>,
    /// Currencies of amounts, the commonest first; empty where there is one or none.
    pub(super) currencies: Vec<String>,
    pub(super) doubts: Vec<String>,
}

/// Whether a column says when its row was loaded.
fn is_known_time(column: &Column) -> bool {
    let words = ["known", "ingest", "loaded", "synced", "extracted"];
    column.time().is_some() && words.iter().any(|word| column.field.contains(word))
}

fn is_deletion(column: &Column) -> bool {
    let names = ["is_deleted", "deleted", "_deleted", "fivetran_deleted"];
    column.kind == Kind::Flag && names.iter().any(|name| column.field == *name)
}

/// The writer of one table's schema.
struct Writer<'g> {
    graph: &'g Graph,
    table: usize,
    profile: &'g TableProfile,
    role: Role,
    owners: Vec<usize>,
    has_label: bool,
    has_match: bool,
    out: TableSchema,
}

/// Writes the schema of a table that has a role. `composite` are the columns of a key that no
/// single column is; empty where the whole row is the key.
pub(super) fn table_schema(
    graph: &Graph,
    table: usize,
    outcome: Option<&Outcome>,
    composite: &[usize],
) -> TableSchema {
    let profile = &graph.tables[table];
    let role = graph.role(table).expect("the table is in the graph");
    let owners: Vec<usize> = graph.owners(table).iter().map(|link| link.column).collect();
    let mut writer = Writer {
        graph,
        table,
        profile,
        role,
        owners,
        has_label: false,
        has_match: false,
        out: TableSchema {
            text: String::new(),
            columns: Vec::new(),
            times: Vec::new(),
            known_time: None,
            lag: None,
            deleted: None,
            key: None,
            currencies: Vec::new(),
            doubts: Vec::new(),
        },
    };
    let mut fields = Vec::new();
    if graph.keys[table] == Key::None {
        fields.push(writer.made_key(composite));
    }
    for column in writer.order() {
        if let Some(field) = writer.field(column) {
            fields.push(field);
        }
    }
    let mut annotation = Map::new();
    annotation.insert("table".into(), profile.name.as_str().into());
    annotation.insert("role".into(), role.name().into());
    if let Some(outcome) = outcome.filter(|_| matches!(role, Role::Event | Role::Member)) {
        let field = &profile.columns[outcome.column].field;
        let mut words = json!({ "field": field, "won": outcome.won });
        if !outcome.lost.is_empty() {
            words["lost"] = json!(outcome.lost);
        }
        annotation.insert("outcome".into(), words);
    }
    let lines: Vec<String> = fields.iter().map(|field| format!("    {field}")).collect();
    writer.out.text = format!(
        "{{ \"type\": \"record\", \"name\": {},\n  \"doc\": {},\n  \"leadpulse\": {},\n  \"fields\": [\n{} ] }}\n",
        json!(camel_case(&singular(&profile.name))),
        json!(format!(
            "Inferred from {}, {} rows.",
            profile.file, profile.rows
        )),
        Json::from(annotation),
        lines.join(",\n")
    );
    writer.out
}

impl Writer<'_> {
    /// The columns in order of fields: owners are tried in that order, so they keep theirs.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.profile.columns.len()).collect();
        let mut places: Vec<usize> = self.owners.clone();
        places.sort_unstable();
        for (place, owner) in places.iter().zip(&self.owners) {
            order[*place] = *owner;
        }
        order
    }

    /// The key field of a table without one in its files.
    fn made_key(&mut self, composite: &[usize]) -> Json {
        let mut name = format!("{}_key", singular(&self.profile.name));
        while self.profile.column(&name).is_some() {
            name.push('_');
        }
        let headers = composite
            .iter()
            .map(|c| self.profile.columns[*c].header.clone());
        let mut key: Vec<String> = headers.collect();
        if key.is_empty() {
            key.push("@row".to_owned());
            self.doubt("nothing identifies a row: equal rows are one");
        }
        self.out.key = Some(key);
        json!({ "name": name, "type": "string", "leadpulse": { "key": true } })
    }

    fn doubt(&mut self, text: impl Into<String>) {
        self.out.doubts.push(text.into());
    }

    /// The field of a column; `None` where the column is none of the table's.
    fn field(&mut self, index: usize) -> Option<Json> {
        let column = &self.profile.columns[index];
        let is_own_time = self.graph.times[self.table] == Some(index);
        if column.kind == Kind::Empty {
            self.doubt(format!(
                "{} has no value in any row: left out",
                column.field
            ));
            return None;
        }
        if is_known_time(column) && !is_own_time {
            self.out.known_time = Some(column.header.clone());
            if let Some(setting) = column.time().and_then(|form| form.setting.clone()) {
                self.out.times.push((column.header.clone(), setting));
            }
            return None;
        }
        if is_deletion(column) {
            let counts = column.counts.as_ref();
            let yes: Vec<&str> = ["true", "1"]
                .into_iter()
                .chain(column.yes.iter().map(String::as_str))
                .collect();
            let is_set = counts.is_some_and(|c| c.keys().any(|v| yes.contains(&v.as_str())));
            if is_set {
                self.out.deleted = Some(column.header.clone());
            }
            return None;
        }
        if column.header != column.field {
            self.out
                .columns
                .push((column.header.clone(), column.field.clone()));
        }
        let is_key = self.graph.keys[self.table].column() == Some(index);
        let annotation = if is_key {
            self.key_annotation(index)
        } else {
            self.annotation(index, is_own_time)
        };
        if let Kind::Time(form) = &column.kind {
            if let Some(setting) = &form.setting {
                self.out.times.push((column.field.clone(), setting.clone()));
            }
            if let Some(days) = form.period_days().filter(|_| is_own_time) {
                self.out.lag = Some(format!("{days}d"));
                self.doubt(format!(
                    "{} names a period: rows count at its first day, and are known once it is over, after \
                     {days} days; a shorter lag is right for what is known when a period begins",
                    column.field
                ));
            }
            if let Some(rival) = &form.rival {
                let setting = form.setting.clone().unwrap_or_default();
                self.doubt(format!(
                    "the times of {} fit {setting} and {rival}: no day above 12 decides",
                    column.field
                ));
            }
        }
        if let Some(bad) = &column.bad_values {
            self.doubt(format!(
                "a few values of {} are not like the others, such as '{bad}': bad_value = \"null\" makes them null",
                column.field
            ));
        }
        let is_reference = annotation.get("ref").is_some();
        let plain = match column.kind {
            _ if is_key || is_reference && column.kind != Kind::List => json!("string"),
            Kind::Flag => json!("boolean"),
            // A converted amount has a fraction.
            Kind::Long if annotation.get("currency").is_some() => json!("double"),
            Kind::Long => json!("long"),
            Kind::Double => json!("double"),
            Kind::Time(_) => json!({ "type": "long", "logicalType": "timestamp-millis" }),
            Kind::Text | Kind::Empty => json!("string"),
            Kind::List => json!({ "type": "array", "items": "string" }),
        };
        let mut field = json!({ "name": column.field });
        if is_key || is_own_time {
            field["type"] = plain;
        } else {
            field["type"] = json!(["null", plain]);
            field["default"] = Json::Null;
        }
        if annotation.as_object().is_some_and(|a| !a.is_empty()) {
            field["leadpulse"] = annotation;
        }
        Some(field)
    }

    /// The mark of a key, with the steps to one spelling where files write it in several.
    fn key_annotation(&self, index: usize) -> Json {
        let column = &self.profile.columns[index];
        let has_float_ids =
            |table: usize, index: usize| self.graph.tables[table].columns[index].has_float_ids();
        let is_referred_by_floats = self.graph.links.iter().enumerate().any(|(table, links)| {
            let mut to_this = links.iter().filter(|link| link.target == self.table);
            to_this.any(|link| has_float_ids(table, link.column))
        });
        if column.is_salesforce() {
            json!({ "key": true, "normalise": ["salesforce-id"] })
        } else if column.has_float_ids() || is_referred_by_floats {
            json!({ "key": true, "normalise": ["integer"] })
        } else {
            json!({ "key": true })
        }
    }

    fn annotation(&mut self, index: usize, is_own_time: bool) -> Json {
        let column = &self.profile.columns[index];
        if is_own_time {
            return json!({ "time": true });
        }
        let link = self.graph.links[self.table]
            .iter()
            .find(|l| l.column == index)
            .cloned();
        if let Some(link) = link
            && let Some(reference) = self.reference(index, &link)
        {
            return reference;
        }
        match column.kind {
            Kind::Text => self.text(column),
            Kind::List if column.field == "changed_fields" => json!({ "changed_fields": true }),
            Kind::Flag if column.field.contains("retract") && self.role == Role::Event => {
                json!({ "retraction": true })
            }
            Kind::Time(_) if self.role == Role::Event => {
                self.doubt(format!(
                    "{} may be later than the row's own time and then tells the future: left out of the features",
                    column.field
                ));
                json!({ "feature": "none" })
            }
            Kind::Long if named_like_code(&column.field) => json!({ "feature": "none" }),
            Kind::Long | Kind::Double => self.money(column),
            _ => json!({}),
        }
    }

    /// A currency beside an amount is named: sums of several currencies mean nothing.
    fn money(&mut self, column: &Column) -> Json {
        let words = [
            "amount", "price", "revenue", "value", "total", "cost", "fee",
        ];
        let is_money = words.iter().any(|word| column.field.contains(word));
        let currency = self.profile.columns.iter().find(|c| is_currency(c));
        let Some(currency) = currency.filter(|_| is_money) else {
            return json!({});
        };
        let codes = currency.by_count();
        if codes.len() > 1 {
            let most: Vec<&str> = codes.iter().take(3).map(|(code, _)| *code).collect();
            self.doubt(format!(
                "{} is in several currencies ({} in {}), which count as one until [currency] has rates",
                column.field,
                most.join(", "),
                currency.field
            ));
            self.out.currencies = codes.iter().map(|(code, _)| (*code).to_owned()).collect();
        }
        json!({ "currency": currency.field })
    }

    /// The annotation of a reference; `None` where a table may not refer to its target.
    fn reference(&mut self, index: usize, link: &Link) -> Option<Json> {
        let target = self.graph.role(link.target)?;
        let field = &self.profile.columns[index].field;
        // A hub stands apart, and an event is no node.
        if target == Role::Event || self.role == Role::Hub {
            return None;
        }
        let mut annotation = json!({ "ref": self.graph.tables[link.target].name });
        if let Some(meaning) = self.graph.meaning(self.table, link) {
            annotation[meaning] = true.into();
            self.doubt(format!("{field} is taken for \"{meaning}\" by its name"));
        } else if self.owners.contains(&index) {
            annotation["owner"] = true.into();
        }
        if link.share < 0.95 {
            self.doubt(format!(
                "{field} refers to {}: {:.0} % of its values are found there",
                self.graph.tables[link.target].name,
                100.0 * link.share
            ));
        } else if !link.is_named && self.graph.meaning(self.table, link).is_none() {
            self.doubt(format!(
                "{field} refers to {} by its values, not by its name",
                self.graph.tables[link.target].name
            ));
        }
        Some(annotation)
    }

    fn text(&mut self, column: &Column) -> Json {
        let is_node = matches!(self.role, Role::Root | Role::Member);
        // A hub is shown by its description where nothing names it.
        let is_described =
            self.role == Role::Hub && matches!(column.field.as_str(), "description" | "desc");
        let is_free =
            !self.has_label && (is_label(&column.field, &self.profile.name) || is_described);
        if is_email(column) {
            return if is_node {
                self.has_match = true;
                json!({ "match": "domain" })
            } else {
                json!({ "feature": "none" })
            };
        }
        if is_node && is_site(column) {
            self.has_match = true;
            return json!({ "match": "website" });
        }
        let distinct = column.sketch.distinct();
        let is_entity = self.role != Role::Event;
        if is_free && is_entity && distinct > 0.3 * column.present as f64 {
            self.has_label = true;
            return json!({ "label": true });
        }
        let name = column.field.as_str();
        if is_currency(column) || named_like_code(name) && distinct > DECLARED_VALUES as f64 {
            return json!({ "feature": "none" });
        }
        let values: Vec<&str> = column.by_count().iter().map(|(value, _)| *value).collect();
        let is_rare = distinct > 0.2 * column.present as f64 && distinct > 12.0;
        if values.is_empty() || is_rare || values.iter().any(|v| v.len() > 60) {
            return json!({ "feature": "none" });
        }
        if is_node
            && distinct >= 2.0
            && NEIGHBOURS
                .iter()
                .any(|n| name == *n || name.ends_with(&format!("_{n}")))
        {
            let hub = self.hub_name(name);
            return if values.len() <= DECLARED_VALUES {
                json!({ "hub": hub, "values": values })
            } else {
                json!({ "hub": hub })
            };
        }
        if values.len() > DECLARED_VALUES {
            let commonest = column.by_count();
            let declared: u64 = commonest[..DECLARED_VALUES].iter().map(|(_, n)| n).sum();
            // Names of people repeat, and are no kinds.
            if declared * 2 < column.present {
                self.doubt(format!(
                    "{name} has {} values, and the {DECLARED_VALUES} commonest are less than half \
                     of its rows: it is left out; \"feature\": \"text\" reads its words",
                    values.len()
                ));
                return json!({ "feature": "none" });
            }
            self.doubt(format!(
                "{name} has {} values: the {DECLARED_VALUES} commonest have a slot of their own",
                values.len()
            ));
        }
        json!({ "values": values.iter().take(DECLARED_VALUES).collect::<Vec<_>>() })
    }

    /// `city` → `cities`; a name that no table has.
    fn hub_name(&self, field: &str) -> String {
        let mut name = match field.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if field.ends_with(['s', 'h', 'x']) => format!("{field}es"),
            None => format!("{field}s"),
        };
        while self.graph.tables.iter().any(|t| t.name == name) {
            name.push_str("_hub");
        }
        name
    }
}

/// Whether a column contains codes of currencies.
fn is_currency(column: &Column) -> bool {
    let is_named = ["currency", "ccy"]
        .iter()
        .any(|word| column.field.contains(word));
    let is_code = |v: &String| v.len() == 3 && v.bytes().all(|b| b.is_ascii_alphabetic());
    is_named && !column.sample.is_empty() && column.sample.iter().all(is_code)
}
