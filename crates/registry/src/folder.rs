//! Writer schemas without a registry: the files of a folder.

use std::path::Path;
use std::sync::Arc;

use leadpulse_schema::{FolderRegistry, RegistryError, SchemaRef, WriterSchema};

use crate::lookup::{LookupError, WriterSchemas, name_of};

/// The schemas of a folder. Ids follow from the schemas, so every process derives the same ones.
#[derive(Clone, Debug)]
pub struct FolderStore {
    registry: Arc<FolderRegistry>,
}

impl FolderStore {
    /// Reads the folder, its `versions/` and its `outputs/`.
    ///
    /// # Errors
    /// A file that is no schema, or two schemas of one id.
    pub fn load(dir: &Path) -> Result<Self, RegistryError> {
        Ok(Self {
            registry: Arc::new(FolderRegistry::load(dir)?),
        })
    }
}

impl WriterSchemas for FolderStore {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, LookupError> {
        let found = self.registry.get(*schema);
        found
            .map(WriterSchema::avro)
            .ok_or_else(|| LookupError::Unknown(name_of(schema)))
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, LookupError> {
        FolderRegistry::id_of(schema_json)
            .map_err(|error| LookupError::Unknown(format!("{subject}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_schemas_are_found_by_id() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let store = FolderStore::load(&folder).unwrap();
        let json = std::fs::read_to_string(folder.join("accounts.avsc")).unwrap();
        let id = store.id_of("crm.accounts.v1-value", &json).unwrap();
        assert_eq!(*store.lookup(&SchemaRef::Id(id)).unwrap().text, *json);
        assert_eq!(
            store.lookup(&SchemaRef::Id(id ^ 1)),
            Err(LookupError::Unknown((id ^ 1).to_string()))
        );
        assert!(matches!(
            store.id_of("s", "{}"),
            Err(LookupError::Unknown(_))
        ));
    }
}
