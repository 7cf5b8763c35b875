//! Money: amounts of several currencies become amounts of one, as rows are admitted.
//!
//! Admission is the one way into rows for files and topics, so training and live scoring see the same
//! numbers. The currency becomes that of the base along with the amount: a row that is written and
//! read again is converted once.
//!
//! Decision: docs/decisions/0042-amounts-of-one-currency.md

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Field, FieldId, Table};
use crate::row::{RowBuilder, Value};

/// The currencies of a deployment, as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurrencyOptions {
    /// The currency that amounts are converted to, such as `EUR`. Without one, amounts stay as
    /// written.
    pub base: Option<String>,
    /// Currency → units of the base for one unit of it.
    pub rates: BTreeMap<String, f64>,
}

/// Options that say nothing about money.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CurrencyError {
    /// Rates without the currency that they lead to.
    #[error("currency.rates are given without currency.base; name the currency they convert to")]
    NoBase,
    /// A code without letters.
    #[error("currency.{setting}: a currency without a name; write its code, such as \"EUR\"")]
    NoCode { setting: &'static str },
    /// A rate that is no positive number, or a rate of the base other than 1.
    #[error("currency.rates.{code}: {rate} is no rate; write how many {base} one {code} is worth")]
    Rate {
        code: String,
        base: String,
        rate: f64,
    },
    /// Two spellings of one currency.
    #[error("currency.rates: {code} is given twice; keep one")]
    Twice { code: String },
}

/// Rates to one currency; codes in upper case.
#[derive(Clone, Debug, PartialEq)]
pub struct CurrencyRates {
    base: Arc<str>,
    rates: BTreeMap<String, f64>,
}

impl CurrencyOptions {
    /// The checked rates; `None` where no base is configured.
    ///
    /// # Errors
    /// Rates without a base, a rate that is not above zero, a currency that is given twice.
    pub fn checked(&self) -> Result<Option<CurrencyRates>, CurrencyError> {
        let Some(base) = &self.base else {
            return match self.rates.is_empty() {
                true => Ok(None),
                false => Err(CurrencyError::NoBase),
            };
        };
        let base = code(base);
        if base.is_empty() {
            return Err(CurrencyError::NoCode { setting: "base" });
        }
        let mut rates = BTreeMap::new();
        for (name, rate) in &self.rates {
            let code = code(name);
            if code.is_empty() {
                return Err(CurrencyError::NoCode { setting: "rates" });
            }
            let is_rate = rate.is_finite() && *rate > 0.0 && (code != base || *rate == 1.0);
            if !is_rate {
                let rate = *rate;
                return Err(CurrencyError::Rate { code, base, rate });
            }
            if rates.insert(code.clone(), *rate).is_some() {
                return Err(CurrencyError::Twice { code });
            }
        }
        rates.insert(base.clone(), 1.0);
        Ok(Some(CurrencyRates {
            base: base.into(),
            rates,
        }))
    }
}

impl CurrencyRates {
    /// The code of the currency that amounts are converted to.
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// A code in its one spelling.
fn code(text: &str) -> String {
    text.trim().to_uppercase()
}

impl Catalog {
    /// Converts amounts of rows that are read from now on.
    pub fn set_rates(&mut self, rates: CurrencyRates) {
        let rates = Arc::new(rates);
        for table in &mut self.tables {
            table.rates = Some(rates.clone());
        }
    }
}

impl Table {
    /// Amounts with the field of their currency, in field order.
    pub fn amounts(&self) -> impl Iterator<Item = (&Field, FieldId)> {
        let fields = self.fields.iter();
        fields.filter_map(|field| Some((field, field.currency?)))
    }
}

/// An amount that cannot be converted.
#[derive(Debug, PartialEq)]
pub(crate) struct UnknownCurrency {
    pub(crate) amount: FieldId,
    /// The currency as written; empty where a change record leaves it out.
    pub(crate) currency: String,
}

impl UnknownCurrency {
    /// The value that was expected, for people.
    pub(crate) fn expected(&self) -> &'static str {
        if self.currency.is_empty() {
            "an amount with its currency: the change names the amount alone; have the source send both"
        } else {
            "a currency with a rate; add it to rates of [currency], or let text.bad_value make the amount \
             null"
        }
    }
}

/// Converts the amounts of a row, then sets their currencies to the base. An amount without a
/// currency is one of the base. `may_drop` says whether an amount of an unknown currency becomes null,
/// and counts it.
///
/// # Errors
/// The first amount that cannot be converted and may not be dropped.
pub(crate) fn convert_amounts(
    table: &Table,
    row: &mut RowBuilder<'_>,
    may_drop: &mut dyn FnMut(&UnknownCurrency) -> bool,
) -> Result<(), UnknownCurrency> {
    let Some(rates) = &table.rates else {
        return Ok(());
    };
    for (amount, currency) in table.amounts() {
        let Value::Double(value) = row.get(amount.id) else {
            continue;
        };
        if !is_changed(table, row, amount) {
            continue;
        }
        let written = row.get(currency).text().map(code).unwrap_or_default();
        let is_left_out = written.is_empty() && !is_changed(table, row, table.field_at(currency));
        let rate = match written.is_empty() {
            true => (!is_left_out).then_some(1.0),
            false => rates.rates.get(&written).copied(),
        };
        match rate {
            Some(rate) => row.set(amount.id, Value::Double(value * rate)),
            None => {
                let unknown = UnknownCurrency {
                    amount: amount.id,
                    currency: written,
                };
                if !may_drop(&unknown) {
                    return Err(unknown);
                }
                row.set(amount.id, Value::Null);
            }
        }
    }
    for (_, currency) in table.amounts() {
        let written = row.get(currency).text();
        let is_known = written.is_some_and(|text| rates.rates.contains_key(&code(text)));
        if is_known && written != Some(rates.base()) {
            row.set(currency, Value::Text(rates.base()));
        }
    }
    Ok(())
}

/// Whether a row carries a field: a change record keeps those that it does not name.
fn is_changed(table: &Table, row: &RowBuilder<'_>, field: &Field) -> bool {
    let named = table.changed_fields.map(|list| row.get(list));
    let is_named = match named {
        Some(Value::List(names)) => {
            names.iter().next().is_none() || names.iter().any(|name| name == field.name)
        }
        _ => true,
    };
    is_named && !row.is_unchanged(field.id)
}

#[cfg(test)]
mod tests;
