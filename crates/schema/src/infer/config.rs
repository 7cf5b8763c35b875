//! The configuration of inferred tables: sources, the first task, doubts at the place they concern.

use super::profile::{Kind, TableProfile};
use super::roles::{Graph, Part};
use super::schemas::TableSchema;
use super::task::FirstTask;

/// Writes `leadpulse.toml`. `schemas` are in parallel to the tables; `None` where one is left out.
pub(super) fn configuration(
    graph: &Graph,
    schemas: &[Option<TableSchema>],
    task: Option<&FirstTask>,
    prefix: &str,
) -> String {
    let mut text = String::from(
        "# Written by `leadpulse init`. Read the doubts; everything here may be changed.\n\
         # `leadpulse config` prints every setting in force and where it came from.\n\
         schemas = \"schemas\"\n",
    );
    let mut order: Vec<usize> = (0..graph.tables.len()).collect();
    order.sort_by_key(|t| {
        (
            graph.role(*t).map_or(9, |role| role as u8),
            graph.depths[*t],
            *t,
        )
    });
    for table in order {
        let profile = &graph.tables[table];
        match (&graph.parts[table], &schemas[table]) {
            (Part::In(_), Some(schema)) => {
                text.push_str(&source(profile, schema, &graph.doubts[table], prefix));
            }
            (Part::Out(why), _) => {
                text.push_str(&format!("\n# doubt: {} is left out: {why}\n", profile.file));
                for doubt in &graph.doubts[table] {
                    text.push_str(&format!("# doubt: {doubt}\n"));
                }
            }
            _ => {}
        }
    }
    text.push_str(&currency_section(schemas));
    match task {
        Some(task) => text.push_str(&task_section(task)),
        None => text.push_str(
            "\n# doubt: no table of events and no outcome was found, so there is no task; \
             docs/pql.md shows how a question is asked\n",
        ),
    }
    if prefix != "leadpulse" {
        text.push_str(&format!(
            "\n[kafka]\ngroup_id = {prefix:?}\ntransactional_id = \"{prefix}-0\"\n"
        ));
    }
    text
}

/// A proposal of `[currency]`, as a comment, where amounts are of several currencies: no file has
/// rates.
fn currency_section(schemas: &[Option<TableSchema>]) -> String {
    let mut codes: Vec<&String> = Vec::new();
    for code in schemas
        .iter()
        .flatten()
        .flat_map(|schema| &schema.currencies)
    {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let Some((base, others)) = codes.split_first() else {
        return String::new();
    };
    let rates = others.iter().map(|code| format!("{} = …", bare(code)));
    let rates: Vec<String> = rates.collect();
    format!(
        "\n# doubt: amounts are of several currencies; write what one unit of each is worth in the base\n\
         # [currency]\n# base = {}\n# rates = {{ {} }}\n",
        quoted(base),
        rates.join(", ")
    )
}

fn source(profile: &TableProfile, schema: &TableSchema, doubts: &[String], prefix: &str) -> String {
    let topic = profile.name.replace('_', "-");
    let mut text = String::from("\n");
    for doubt in doubts.iter().chain(&schema.doubts) {
        text.push_str(&format!("# doubt: {doubt}\n"));
    }
    if let Some(value) = &profile.signs.doubt {
        text.push_str(&format!(
            "# doubt: the comma in numbers such as {value} may be a decimal or a thousands sign\n"
        ));
    }
    text.push_str(&format!(
        "[[sources]]\ntable = {}\ntopic = {}\nfile = {}\n",
        quoted(&profile.name),
        quoted(&format!("{prefix}.{topic}.v1")),
        quoted(&profile.file)
    ));
    if let Some(column) = &schema.known_time {
        text.push_str(&format!("known_time = {}\n", quoted(column)));
    }
    if let Some(lag) = &schema.lag {
        text.push_str(&format!("lag = {}\n", quoted(lag)));
    }
    if let Some(column) = &schema.deleted {
        text.push_str(&format!("deleted = {}\n", quoted(column)));
    }
    match schema.key.as_deref() {
        Some([one]) => text.push_str(&format!("key = {}\n", quoted(one))),
        Some(several) => text.push_str(&format!("key = {}\n", list(several))),
        None => {}
    }
    if is_named_txt(&profile.file) {
        text.push_str("format = \"csv\"\n");
    }
    let settings = text_settings(profile);
    if !settings.is_empty() {
        text.push_str(&format!("text = {{ {} }}\n", settings.join(", ")));
    }
    for (name, pairs) in [("columns", &schema.columns), ("times", &schema.times)] {
        if !pairs.is_empty() {
            let pairs = pairs
                .iter()
                .map(|(k, v)| format!("{} = {}", bare(k), quoted(v)));
            text.push_str(&format!(
                "{name} = {{ {} }}\n",
                pairs.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    text
}

/// True for delimited text whose name does not say so to a reader.
fn is_named_txt(file: &str) -> bool {
    let file = file.to_lowercase();
    file.strip_suffix(".gz").unwrap_or(&file).ends_with(".txt")
}

/// Settings of `text` that differ from what files are read with by default.
fn text_settings(profile: &TableProfile) -> Vec<String> {
    let mut settings = Vec::new();
    let dialect = &profile.dialect;
    if !dialect.is_json {
        if dialect.separator != b',' {
            settings.push(format!(
                "separator = {}",
                quoted(&char::from(dialect.separator).to_string())
            ));
        }
        if dialect.quote != b'"' {
            settings.push(format!(
                "quote = {}",
                quoted(&char::from(dialect.quote).to_string())
            ));
        }
    }
    if let Some(encoding) = dialect.encoding.setting() {
        settings.push(format!("encoding = {}", quoted(encoding)));
    }
    if let Some(sign) = profile.signs.decimal {
        settings.push(format!("decimal = {}", quoted(&sign.to_string())));
    }
    if let Some(sign) = profile.signs.thousands {
        settings.push(format!("thousands = {}", quoted(&sign.to_string())));
    }
    if !profile.signs.currency.is_empty() {
        settings.push(format!("currency = {}", list(&profile.signs.currency)));
    }
    let used = || profile.columns.iter().filter(|c| c.kind != Kind::Empty);
    let words = |of: fn(&super::profile::Column) -> Vec<String>| {
        let mut words: Vec<String> = used().flat_map(of).collect();
        words.sort();
        words.dedup();
        words
    };
    let lists = [
        ("nulls", words(|c| c.nulls.iter().cloned().collect())),
        ("yes", words(|c| c.yes.clone())),
        ("no", words(|c| c.no.clone())),
    ];
    for (name, words) in lists {
        if !words.is_empty() {
            settings.push(format!("{name} = {}", list(&words)));
        }
    }
    if used().any(|c| c.bad_values.is_some()) {
        settings.push("bad_value = \"null\"".to_owned());
    }
    settings
}

fn task_section(task: &FirstTask) -> String {
    let mut text = String::from("\n");
    for doubt in &task.doubts {
        text.push_str(&format!("# doubt: {doubt}\n"));
    }
    // Bands of the shipped configuration for rare labels, those of the examples for common ones.
    let (warm, hot) = match task.rate {
        Some(rate) if rate >= 0.2 => (0.4, 0.7),
        _ => (0.08, 0.2),
    };
    text.push_str(&format!(
        "[[tasks]]\nname = {}\nquery = \"\"\"\n{}\n\"\"\"\nanchors = {}\n\n[tasks.policy]\n\
         bands = [{{ name = \"warm\", enter = {warm} }}, {{ name = \"hot\", enter = {hot} }}]\n\
         threshold_up = \"hot\"\n",
        quoted(&task.name),
        task.query,
        quoted(&task.anchors)
    ));
    text.push_str(ACTIONS);
    text
}

/// Rules of actions that need no field of a particular schema.
const ACTIONS: &str = "\n\
# What a work list recommends: the action of the first rule that fits. Labels are for people; docs/events.md\n\
# lists all conditions.\n\
[[tasks.policy.actions]]\ncode = \"call_again\"\nlabel = \"Call again: nothing for two weeks\"\n\
when = { band = [\"hot\"], silent = \"14d\" }\n\n\
[[tasks.policy.actions]]\ncode = \"call\"\nlabel = \"Call\"\nwhen = { band = [\"hot\"] }\n\n\
[[tasks.policy.actions]]\ncode = \"nurture\"\nlabel = \"Stay in touch\"\nwhen = { band = [\"warm\"] }\n\n\
[[tasks.policy.actions]]\ncode = \"none\"\nlabel = \"Nothing to do\"\n";

/// A TOML text. JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn bare(key: &str) -> String {
    let is_bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { key.to_owned() } else { quoted(key) }
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}
