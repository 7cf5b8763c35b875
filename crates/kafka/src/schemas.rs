//! The engine's port on a store of writer schemas.

use leadpulse_engine::ports::{SchemaLookupError, SchemaStore};
use leadpulse_registry::{LookupError, WriterSchemas};
use leadpulse_schema::{SchemaRef, WriterSchema};

/// A store of writer schemas as the engine asks it.
#[derive(Clone, Debug)]
pub struct SchemaPort<S>(S);

impl<S: WriterSchemas> SchemaPort<S> {
    /// Wraps a store.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

impl<S: WriterSchemas> SchemaStore for SchemaPort<S> {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        self.0.lookup(schema).map_err(lookup_error)
    }

    fn find(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        self.0.find(schema).map_err(lookup_error)
    }

    fn prefetch(&self, schemas: &[SchemaRef]) {
        self.0.prefetch(schemas);
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError> {
        self.0.id_of(subject, schema_json).map_err(lookup_error)
    }
}

fn lookup_error(error: LookupError) -> SchemaLookupError {
    match error {
        LookupError::Unknown(schema) => SchemaLookupError::Unknown(schema),
        LookupError::Unavailable(cause) => SchemaLookupError::Unavailable(cause),
        LookupError::Denied(cause) => SchemaLookupError::Denied(cause),
    }
}
