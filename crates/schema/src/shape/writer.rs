//! Writer schemas as a registry gives them: a language, a text, and the texts it refers to.

use std::sync::Arc;

use apache_avro::Schema;
use serde_json::Value as Json;

use super::changes::FieldOrder;
use super::connect::declare_units;

/// The languages in which registries hold schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchemaLanguage {
    #[default]
    Avro,
    JsonSchema,
    Protobuf,
}

impl SchemaLanguage {
    /// The name that registries use.
    pub fn name(self) -> &'static str {
        match self {
            SchemaLanguage::Avro => "AVRO",
            SchemaLanguage::JsonSchema => "JSON",
            SchemaLanguage::Protobuf => "PROTOBUF",
        }
    }
    /// The language of a registry's name; `None` for one that is not read.
    pub fn of_name(name: &str) -> Option<Self> {
        let all = [Self::Avro, Self::JsonSchema, Self::Protobuf];
        all.into_iter().find(|language| language.name() == name)
    }
}

/// A writer schema with everything it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSchema {
    /// The language of all texts.
    pub language: SchemaLanguage,
    /// The schema.
    pub text: Arc<str>,
    /// Schemas that it refers to, by the name it uses: those that others need come first.
    pub references: Vec<(String, Arc<str>)>,
}

impl WriterSchema {
    /// An Avro schema that stands alone.
    pub fn avro(text: impl Into<Arc<str>>) -> Self {
        WriterSchema {
            language: SchemaLanguage::Avro,
            text: text.into(),
            references: Vec::new(),
        }
    }
}

/// An Avro schema with the schemas of its references. Units that Connect names are Avro's logical
/// types.
#[derive(Clone, Debug)]
pub(crate) struct AvroWriter {
    pub(crate) schema: Schema,
    pub(crate) others: Vec<Schema>,
}

impl AvroWriter {
    /// # Errors
    /// The parser's words.
    pub(crate) fn parse(writer: &WriterSchema) -> Result<Self, String> {
        let declared = |text: &str| -> Result<String, String> {
            let mut json: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
            declare_units(&mut json);
            Ok(json.to_string())
        };
        let main = declared(&writer.text)?;
        if writer.references.is_empty() {
            let schema = Schema::parse_str(&main).map_err(|e| e.to_string())?;
            return Ok(AvroWriter {
                schema,
                others: Vec::new(),
            });
        }
        let mut texts = Vec::with_capacity(writer.references.len());
        for (_, text) in &writer.references {
            texts.push(declared(text)?);
        }
        let (schema, others) =
            Schema::parse_str_with_list(&main, &texts).map_err(|e| e.to_string())?;
        Ok(AvroWriter { schema, others })
    }

    /// All schemas, for resolving names.
    pub(crate) fn all(&self) -> Vec<&Schema> {
        self.others.iter().chain([&self.schema]).collect()
    }
}

/// The fields of an Avro record in order, with those of nested records, for bitmaps.
pub(crate) fn field_order(schema: &Schema, depth: usize) -> FieldOrder {
    let Schema::Record(record) = schema else {
        if let Schema::Union(union) = schema {
            let nested = union
                .variants()
                .iter()
                .find(|v| matches!(v, Schema::Record(_)));
            return nested.map_or_else(FieldOrder::default, |nested| field_order(nested, depth));
        }
        return FieldOrder::default();
    };
    let inner = |schema: &Schema| match depth {
        0 => FieldOrder::default(),
        depth => field_order(schema, depth - 1),
    };
    let fields = record.fields.iter();
    FieldOrder(
        fields
            .map(|f| (f.name.as_str().into(), inner(&f.schema)))
            .collect(),
    )
}
