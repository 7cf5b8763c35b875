//! Checks of a delimited file's header before its columns are taken.

use super::{FileContext, FileError};
use crate::shape::made_key::MadeKey;
use crate::shape::path::FieldPath;

impl FileContext {
    /// # Errors
    /// A header of one column contains what stands between columns elsewhere.
    pub(super) fn check_separated(&self, header: &str) -> Result<(), FileError> {
        let signs = [(';', ";"), ('\t', "tab"), ('|', "|"), (',', ",")];
        match signs.iter().find(|(sign, _)| header.contains(*sign)) {
            Some((_, sign)) => Err(FileError::Separator {
                file: self.file.clone(),
                header: header.to_owned(),
                sign,
            }),
            None => Ok(()),
        }
    }

    /// Columns without a name may be many.
    ///
    /// # Errors
    /// Two columns have one name, or feed one field.
    pub(super) fn check_doubled(&self, names: &[&str]) -> Result<(), FileError> {
        for (second, name) in names.iter().enumerate() {
            let before = names[..second].iter().position(|known| known == name);
            if let (Some(first), false) = (before, name.is_empty()) {
                return Err(self.doubled(names, first, second, "have one name".into()));
            }
        }
        let table = self.catalog.table_at(self.table);
        for field in &table.fields {
            let paths = &self.plan.mapped[field.id.index()];
            let is_configured = |name: &str| paths.iter().any(|path| path.as_str() == name);
            let is_own = |name: &str| {
                let fields = self.plan.by_name.get(name);
                fields.is_some_and(|fields| {
                    let mut fields = fields.iter();
                    fields.any(|(index, _)| usize::from(*index) == field.id.index())
                })
            };
            let places = |feeds: &dyn Fn(&str) -> bool| -> Vec<usize> {
                (0..names.len()).filter(|i| feeds(names[*i])).collect()
            };
            // A configured column stands before those of the field's own names.
            let mut feeding = places(&is_configured);
            if feeding.is_empty() {
                feeding = places(&is_own);
            }
            if let [first, second, ..] = feeding[..] {
                let why = format!("both feed the field {}", field.name);
                return Err(self.doubled(names, first, second, why));
            }
        }
        Ok(())
    }

    /// The place of the column that the source names as `deleted`.
    ///
    /// # Errors
    /// The file has no such column: its rows would all be kept without a word.
    pub(super) fn deleted_column(&self, names: &[&str]) -> Result<Option<usize>, FileError> {
        let Some(path) = &self.plan.deleted else {
            return Ok(None);
        };
        let found = names.iter().position(|name| *name == path.as_str());
        found.map(Some).ok_or_else(|| FileError::MissingColumns {
            file: self.file.clone(),
            missing: format!("deleted ('{}')", path.as_str()),
            found: names.join(", "),
        })
    }

    /// For each part of a made key that feeds no field its column.
    ///
    /// # Errors
    /// The file lacks a part, so that none of its rows has a key.
    pub(super) fn key_columns(
        &self,
        names: &[&str],
        columns: &[Option<usize>],
    ) -> Result<Vec<(FieldPath, usize)>, FileError> {
        let Some(MadeKey::Parts(parts)) = &self.plan.key else {
            return Ok(Vec::new());
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for part in parts {
            let place = names.iter().position(|name| *name == part.path.as_str());
            let has_column = part
                .field
                .is_some_and(|field| columns[field.index()].is_some());
            match (part.field, place) {
                (Some(_), _) if has_column => {}
                (None, Some(column)) => found.push((part.path.clone(), column)),
                _ => missing.push(format!("key ('{}')", part.path.as_str())),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        Err(FileError::MissingColumns {
            file: self.file.clone(),
            missing: missing.join(", "),
            found: names.join(", "),
        })
    }

    fn doubled(&self, names: &[&str], first: usize, second: usize, why: String) -> FileError {
        FileError::Doubled {
            file: self.file.clone(),
            first: first + 1,
            first_name: names[first].to_owned(),
            second: second + 1,
            second_name: names[second].to_owned(),
            why,
        }
    }
}
