//! `/api/v1/tables`: the tables of the deployment with their fields.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use leadpulse_schema::{Catalog, DataType, Field, Table};
use serde::Serialize;

use super::answer::{ApiError, tagged};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, READS};
use crate::service::App;

pub(crate) const TABLES: Endpoint = Endpoint {
    path: "/api/v1/tables",
    summary: "The tables with role and fields",
    answer: AnswerKind::Json("Tables"),
    refusals: &[503],
    ..READS
};

#[derive(Serialize)]
struct TablesAnswer<'a> {
    tables: Vec<ShownTable<'a>>,
}

#[derive(Serialize)]
struct ShownTable<'a> {
    name: &'a str,
    role: &'static str,
    /// Name of the field with the key.
    key: &'a str,
    /// Name of the field with the time.
    time: Option<&'a str>,
    fields: Vec<ShownField<'a>>,
}

#[derive(Serialize)]
struct ShownField<'a> {
    name: &'a str,
    /// `bool`, `long`, `double`, `time`, `text` or `texts`.
    r#type: &'static str,
    nullable: bool,
    /// Values that the schema declares; empty for free ones.
    values: &'a [String],
    /// Name of the table that it refers to.
    refers_to: Option<&'a str>,
    /// True for a reference that names the entity which the row belongs to.
    is_owner: bool,
}

/// `/api/v1/tables`
pub(crate) async fn tables(
    State(app): State<App>,
    _: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(catalog) = &app.state.catalog else {
        return Err(ApiError::unavailable(
            "this process knows no schemas",
            "ask a process that runs a configuration",
        ));
    };
    let tables = catalog.tables.iter().map(|table| shown(catalog, table));
    let tables = tables.collect();
    tagged(&app, &headers, &TablesAnswer { tables })
}

fn shown<'a>(catalog: &'a Catalog, table: &'a Table) -> ShownTable<'a> {
    let name_of = |field| table.field_at(field).name.as_str();
    let fields = table.fields.iter();
    ShownTable {
        name: &table.name,
        role: table.role.name(),
        key: name_of(table.key),
        time: table.time.map(name_of),
        fields: fields.map(|field| shown_field(catalog, field)).collect(),
    }
}

fn shown_field<'a>(catalog: &'a Catalog, field: &'a Field) -> ShownField<'a> {
    let refers = field.reference.as_ref();
    ShownField {
        name: &field.name,
        r#type: match field.data_type {
            DataType::Bool => "bool",
            DataType::Long => "long",
            DataType::Double => "double",
            DataType::Time => "time",
            DataType::Text | DataType::Symbol(_) => "text",
            DataType::TextList => "texts",
        },
        nullable: field.nullable,
        values: match &field.data_type {
            DataType::Symbol(symbols) => symbols,
            _ => &field.values,
        },
        refers_to: refers.map(|to| catalog.table_at(to.table).name.as_str()),
        is_owner: refers.is_some_and(|to| to.owner),
    }
}
