//! Profiles: the columns of a table as all rows of its files show them.
//!
//! A profile has a fixed size, whatever the file's: counts, a sample of values, and a sketch of the
//! distinct ones.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::Hasher;

use rustc_hash::{FxHashMap, FxHasher};

use super::cells::{
    TimeForm, is_null_among_numbers, is_null_word, moment, number_shape, time_form, truth_words,
};
use super::text::{Cell, DataText, Dialect, InferError};
use crate::catalog::normalise::{integer, salesforce_id};
use crate::draft::snake;

/// Values of a column that are kept as they are.
const SAMPLE: usize = 1000;
/// Distinct values that are counted by name.
const COUNTED: usize = 4096;
/// Distinct values in a sketch, before half of them are dropped.
const SKETCHED: usize = 1 << 16;

/// A 64-bit hash whose high bits are as good as its low ones.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    mixed(hasher.finish())
}

fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The distinct values of a column: those whose hash is below a limit, which halves when the sketch
/// is full. Two sketches agree on the values they keep, so overlap can be counted.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    limit: u64,
    counts: FxHashMap<u64, u32>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            counts: FxHashMap::default(),
        }
    }
}

impl Sketch {
    pub(super) fn add(&mut self, hash: u64) {
        if hash > self.limit {
            return;
        }
        *self.counts.entry(hash).or_default() += 1;
        while self.counts.len() > SKETCHED {
            self.limit /= 2;
            let limit = self.limit;
            self.counts.retain(|hash, _| *hash <= limit);
        }
    }

    /// An estimate of the number of distinct values; exact below 65,536.
    pub(super) fn distinct(&self) -> f64 {
        self.counts.len() as f64 * (u64::MAX as f64 / self.limit as f64)
    }

    /// True if no value kept was seen twice.
    pub(super) fn is_unique(&self) -> bool {
        self.counts.values().all(|count| *count == 1)
    }

    /// The share of this column's distinct values that are found in `other`.
    pub(super) fn share_in(&self, other: &Sketch) -> f64 {
        let limit = self.limit.min(other.limit);
        let (mut all, mut found) = (0_u64, 0_u64);
        for hash in self.counts.keys().filter(|hash| **hash <= limit) {
            all += 1;
            found += u64::from(other.counts.contains_key(hash));
        }
        if all == 0 {
            return 0.0;
        }
        found as f64 / all as f64
    }
}

/// The type of a column's values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// No value at all.
    Empty,
    Flag,
    Long,
    Double,
    Time(TimeForm),
    Text,
    List,
}

/// Spellings of numbers in a column, as counts of values.
#[derive(Clone, Debug, Default)]
struct Spellings {
    numbers: u64,
    fractions: u64,
    /// Fractions of zeros alone, as in `4.0`.
    empty_fractions: u64,
    leading_zeros: u64,
    comma_fractions: u64,
    comma_or_thousands: u64,
    thousands: FxHashMap<char, u64>,
    currencies: BTreeSet<String>,
    longest: usize,
}

/// A column of a table's files.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The name in the files.
    pub(super) header: String,
    /// The name of its field.
    pub(super) field: String,
    /// Rows with a value.
    pub(super) present: u64,
    pub(super) kind: Kind,
    pub(super) sketch: Sketch,
    pub(super) sample: Vec<String>,
    /// Distinct values with their counts; `None` where there are too many to name.
    pub(super) counts: Option<FxHashMap<String, u64>>,
    pub(super) yes: Vec<String>,
    pub(super) no: Vec<String>,
    /// Null words of the column that files do not know by default.
    pub(super) nulls: BTreeSet<String>,
    /// A few values are none of the kind.
    pub(super) bad_values: Option<String>,
    spellings: Spellings,
    words_among_numbers: FxHashMap<String, u64>,
    odd: Option<String>,
    flags: u64,
    lists: u64,
    seen: u64,
}

impl Column {
    pub(super) fn new(header: &str) -> Self {
        Self {
            header: header.to_owned(),
            field: String::new(),
            present: 0,
            kind: Kind::Empty,
            sketch: Sketch::default(),
            sample: Vec::new(),
            counts: Some(FxHashMap::default()),
            yes: Vec::new(),
            no: Vec::new(),
            nulls: BTreeSet::new(),
            bad_values: None,
            spellings: Spellings::default(),
            words_among_numbers: FxHashMap::default(),
            odd: None,
            flags: 0,
            lists: 0,
            seen: 0,
        }
    }

    fn add(&mut self, cell: &Cell) {
        match cell {
            Cell::Missing => {}
            Cell::Flag(flag) => {
                self.present += 1;
                self.flags += 1;
                self.count(if *flag { "true" } else { "false" });
            }
            Cell::List(items) => {
                self.present += 1;
                self.lists += 1;
                for item in items {
                    self.sketch.add(hash(item));
                    self.count(item);
                }
            }
            Cell::Number(text) | Cell::Text(text) => self.add_text(text),
        }
    }

    fn add_text(&mut self, text: &str) {
        let trimmed = text.trim();
        if is_null_word(trimmed) {
            self.nulls.insert(trimmed.to_owned());
            return;
        }
        self.present += 1;
        self.sketch.add(hash(&one_spelling(trimmed)));
        self.count(trimmed);
        self.seen += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(trimmed.to_owned());
        } else {
            // Each value has the same chance to stay; the choice is the same in every run.
            let place = (mixed(self.seen) % self.seen) as usize;
            if place < SAMPLE {
                self.sample[place] = trimmed.to_owned();
            }
        }
        self.spell(trimmed);
    }

    fn spell(&mut self, text: &str) {
        let Some(shape) = number_shape(text) else {
            if is_null_among_numbers(text) {
                *self.words_among_numbers.entry(text.to_owned()).or_default() += 1;
            } else if self.odd.is_none() {
                self.odd = Some(text.to_owned());
            }
            return;
        };
        let spellings = &mut self.spellings;
        spellings.numbers += 1;
        spellings.longest = spellings.longest.max(text.len());
        spellings.leading_zeros += u64::from(shape.has_leading_zero);
        if let Some(sign) = shape.currency {
            spellings.currencies.insert(sign);
        }
        match (shape.decimal, shape.is_ambiguous) {
            (Some(','), true) => spellings.comma_or_thousands += 1,
            (Some(','), false) => {
                spellings.comma_fractions += 1;
                spellings.fractions += 1;
            }
            (Some(_), _) => {
                spellings.fractions += 1;
                spellings.empty_fractions += u64::from(has_empty_fraction(text));
            }
            (None, _) => {}
        }
        if let Some(sign) = shape.thousands {
            *spellings.thousands.entry(sign).or_default() += 1;
        }
    }

    fn count(&mut self, text: &str) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        if let Some(count) = counts.get_mut(text) {
            *count += 1;
        } else if counts.len() < COUNTED && text.len() <= 200 {
            counts.insert(text.to_owned(), 1);
        } else {
            self.counts = None;
        }
    }

    /// Settles the type, once all rows were seen.
    fn settle(&mut self) {
        self.kind = self.kind_of();
        if matches!(self.kind, Kind::Long | Kind::Double | Kind::Time(_)) {
            let words = std::mem::take(&mut self.words_among_numbers);
            self.present -= words.values().sum::<u64>();
            self.nulls.extend(words.into_keys());
        }
    }

    fn kind_of(&mut self) -> Kind {
        let words: u64 = self.words_among_numbers.values().sum();
        if self.present == words {
            return Kind::Empty;
        }
        if self.lists > 0 {
            return Kind::List;
        }
        if self.flags == self.present {
            return Kind::Flag;
        }
        if let Some(counts) = self.counts.as_ref().filter(|counts| counts.len() <= 6) {
            let values: Vec<&str> = counts.keys().map(String::as_str).collect();
            if let Some((yes, no)) = truth_words(&values) {
                let known = |word: &String| matches!(word.as_str(), "true" | "false");
                if !yes.iter().chain(&no).all(known) {
                    (self.yes, self.no) = (yes, no);
                    self.yes.sort();
                    self.no.sort();
                }
                return Kind::Flag;
            }
            if named_like_flag(&self.field) && values.iter().all(|v| matches!(*v, "0" | "1")) {
                return Kind::Flag;
            }
        }
        let sample = self.sample.iter().map(String::as_str);
        let sample: Vec<&str> = sample.filter(|v| !is_null_among_numbers(v)).collect();
        if let Some(form) = time_form(&sample, &self.field) {
            let bad = sample
                .iter()
                .find(|v| moment(v, &form).is_none() && !is_sentinel(v));
            self.bad_values = bad.map(|v| (*v).to_owned());
            return Kind::Time(form);
        }
        let spellings = &self.spellings;
        let is_number = spellings.leading_zeros == 0
            && (spellings.numbers + words) as f64 >= 0.98 * self.present as f64
            && spellings.longest <= 40;
        if !is_number {
            return Kind::Text;
        }
        if spellings.numbers + words < self.present {
            // A code such as a stock number has letters in a few of its values.
            if named_like_code(&self.field) || self.present < 200 {
                return Kind::Text;
            }
            self.bad_values = self.odd.clone();
        }
        // Programs that know only floats write an id with a fraction.
        let fractions = match named_like_code(&self.field) {
            true => spellings.fractions - spellings.empty_fractions,
            false => spellings.fractions,
        };
        let is_whole = fractions + spellings.comma_or_thousands == 0
            && spellings.currencies.is_empty()
            && spellings.thousands.is_empty();
        match is_whole {
            true if spellings.longest > 18 => Kind::Text,
            true => Kind::Long,
            false => Kind::Double,
        }
    }

    pub(super) fn is_key_like(&self) -> bool {
        matches!(self.kind, Kind::Long | Kind::Text)
    }

    /// True for whole numbers of which some have an empty fraction.
    pub(super) fn has_float_ids(&self) -> bool {
        self.is_key_like() && self.spellings.empty_fractions > 0
    }

    /// True if all values look like ids of Salesforce, of 15 or 18 characters.
    pub(super) fn is_salesforce(&self) -> bool {
        !self.sample.is_empty() && self.sample.iter().all(|text| is_salesforce_id(text))
    }

    pub(super) fn time(&self) -> Option<&TimeForm> {
        match &self.kind {
            Kind::Time(form) => Some(form),
            _ => None,
        }
    }

    /// Values by falling count, then by name; empty where they are too many to name.
    pub(super) fn by_count(&self) -> Vec<(&str, u64)> {
        let counts = self.counts.iter().flatten();
        let mut counts: Vec<(&str, u64)> = counts.map(|(v, n)| (v.as_str(), *n)).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts
    }
}

/// An id of Salesforce: letters and digits behind three characters for its object, of which the first
/// is a digit or `a`.
fn is_salesforce_id(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    text.starts_with(|first: char| first.is_ascii_digit() || first == 'a')
        && has(u8::is_ascii_alphabetic)
        && has(u8::is_ascii_digit)
        && salesforce_id(text).is_some()
}

fn has_empty_fraction(text: &str) -> bool {
    text.contains('.') && integer(text).is_some()
}

/// The spelling in which values are counted and compared: keys meet though files write them in two
/// ways.
fn one_spelling(text: &str) -> Cow<'_, str> {
    if is_salesforce_id(text) {
        return salesforce_id(text).map_or(Cow::Borrowed(text), Cow::Owned);
    }
    match has_empty_fraction(text) && !text.starts_with('0') {
        true => integer(text).map_or(Cow::Borrowed(text), Cow::Owned),
        false => Cow::Borrowed(text),
    }
}

fn is_sentinel(value: &str) -> bool {
    ["9999", "0001", "1900"]
        .iter()
        .any(|year| value.contains(year))
}

/// Whether a column of 0 and 1 is a truth value by its name.
fn named_like_flag(field: &str) -> bool {
    ["is_", "has_", "was_", "did_", "can_"]
        .iter()
        .any(|start| field.starts_with(start))
        || ["flag", "deleted", "active", "won", "closed", "converted"]
            .iter()
            .any(|end| field.ends_with(end))
}

/// Whether a number is a time by its name.
pub(super) fn named_like_time(field: &str) -> bool {
    crate::draft::is_named_like_time(field)
        || [
            "date",
            "time",
            "timestamp",
            "datetime",
            "created",
            "updated",
            "modified",
            "epoch",
            "unix",
        ]
        .iter()
        .any(|end| field.ends_with(end))
}

/// Whether digits are a name rather than an amount.
pub(super) fn named_like_code(field: &str) -> bool {
    const ENDS: [&str; 14] = [
        "id", "key", "code", "number", "no", "nr", "zip", "postal", "phone", "fax", "uuid", "guid",
        "ref", "invoice",
    ];
    field
        .rsplit('_')
        .next()
        .is_some_and(|last| ENDS.contains(&last))
        || ["zip", "postal", "phone"]
            .iter()
            .any(|part| field.contains(part))
        || field.ends_with("id")
            && !["paid", "valid", "bid", "grid", "void"]
                .iter()
                .any(|w| field.ends_with(w))
}

/// Signs of a table's numbers that files do not know by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NumberSigns {
    pub(super) decimal: Option<char>,
    pub(super) thousands: Option<char>,
    pub(super) currency: Vec<String>,
    /// A value that two settings read differently.
    pub(super) doubt: Option<String>,
}

/// A table's files, and the columns in them.
#[derive(Clone, Debug)]
pub(super) struct TableProfile {
    pub(super) name: String,
    /// The name of the file, or a pattern, relative to the data folder.
    pub(super) file: String,
    pub(super) dialect: Dialect,
    pub(super) rows: u64,
    pub(super) columns: Vec<Column>,
    pub(super) signs: NumberSigns,
}

impl TableProfile {
    /// Reads all files of a table.
    pub(super) fn read(name: String, file: String, texts: &[DataText]) -> Result<Self, InferError> {
        let mut columns: Vec<Column> = Vec::new();
        let mut rows = 0;
        for text in texts {
            // The files' columns may stand in another order.
            let mut places: Vec<usize> = Vec::new();
            text.each_row(&mut |names, cells| {
                rows += 1;
                for name in &names[places.len()..] {
                    let known = columns.iter().position(|column| column.header == *name);
                    places.push(known.unwrap_or_else(|| {
                        columns.push(Column::new(name));
                        columns.len() - 1
                    }));
                }
                for (place, cell) in places.iter().zip(cells) {
                    columns[*place].add(cell);
                }
            })?;
        }
        name_fields(&mut columns);
        columns.iter_mut().for_each(Column::settle);
        let signs = number_signs(&columns, texts[0].dialect.separator);
        Ok(Self {
            name,
            file,
            dialect: texts[0].dialect,
            rows,
            columns,
            signs,
        })
    }

    pub(super) fn column(&self, field: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.field == field)
    }
}

/// Snake-case names for the columns, unique.
fn name_fields(columns: &mut [Column]) {
    let mut taken: Vec<String> = Vec::new();
    for column in columns {
        let wanted = snake(&column.header);
        let mut name = wanted.clone();
        let mut number = 2;
        while taken.contains(&name) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        taken.push(name.clone());
        column.field = name;
    }
}

/// The signs of all number columns together: a file is written in one country's way.
fn number_signs(columns: &[Column], separator: u8) -> NumberSigns {
    let mut signs = NumberSigns::default();
    let (mut commas, mut unsure, mut comma_thousands) = (0, 0, 0);
    let mut points = 0;
    let mut currency = BTreeSet::new();
    for column in columns.iter().filter(|c| c.kind == Kind::Double) {
        let spellings = &column.spellings;
        commas += spellings.comma_fractions;
        unsure += spellings.comma_or_thousands;
        points += spellings.fractions - spellings.comma_fractions;
        for (sign, count) in &spellings.thousands {
            if *sign == ',' {
                comma_thousands += count;
            } else {
                signs.thousands = Some(*sign);
            }
        }
        currency.extend(spellings.currencies.iter().cloned());
    }
    signs.currency = currency.into_iter().collect();
    if commas > comma_thousands {
        signs.decimal = Some(',');
    } else if comma_thousands > 0 || (unsure > 0 && points > 0) {
        signs.thousands = Some(',');
    } else if unsure > 0 {
        if separator == b';' {
            signs.decimal = Some(',');
        } else {
            signs.thousands = Some(',');
        }
        let ambiguous = columns.iter().find(|c| c.spellings.comma_or_thousands > 0);
        signs.doubt = ambiguous
            .and_then(|c| c.sample.iter().find(|v| v.contains(',')))
            .cloned();
    }
    signs
}
