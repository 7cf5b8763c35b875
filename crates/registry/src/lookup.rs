//! The questions that a store of writer schemas answers.

use leadpulse_schema::{SchemaRef, WriterSchema};

/// A schema that a store did not give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The schema does not exist, for certain.
    #[error("no schema {0} is registered")]
    Unknown(String),
    /// No one could be asked; the same question may have an answer later.
    #[error("the schema registry cannot be reached: {0}")]
    Unavailable(String),
    /// The registry denies access. Waiting changes nothing until somebody mends credentials or
    /// permissions.
    #[error("the schema registry denies access: {0}")]
    Denied(String),
}

/// Writer schemas by id or GUID.
pub trait WriterSchemas: Send + Sync {
    /// The schema. Known ids are answered from memory for ever. May wait for a registry.
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError>;
    /// As [`Self::lookup`], without waiting. An unknown id is asked for in the background and is
    /// `Unavailable` until its answer comes.
    fn find(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError> {
        self.lookup(schema)
    }
    /// Asks for these schemas in the background, together, so that each of many unknown ids does
    /// not cost a wait of its own. Returns at once.
    fn prefetch(&self, schemas: &[SchemaRef]) {
        let _ = schemas;
    }
    /// The id to write under for one of our own schemas.
    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, LookupError>;
}

/// An id in decimal, or a GUID in groups of 8-4-4-4-12 hexadecimal digits.
pub(crate) fn name_of(schema: &SchemaRef) -> String {
    match schema {
        SchemaRef::Id(id) => id.to_string(),
        SchemaRef::Fingerprint(fingerprint) => format!("of fingerprint {fingerprint:016x}"),
        SchemaRef::Guid(guid) => {
            let hex = leadpulse_schema::hex(guid);
            format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..]
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_named_as_usual() {
        let guid = std::array::from_fn(|byte| byte as u8 * 17);
        assert_eq!(
            name_of(&SchemaRef::Guid(guid)),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
        assert_eq!(name_of(&SchemaRef::Id(12)), "12");
    }
}
