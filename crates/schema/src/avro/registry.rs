//! Schema ids for a deployment without a registry: they follow from the schemas themselves, so all
//! parts agree on them.
//!
//! An id is the first 31 bits, a GUID the first 16 bytes, of the SHA-256 of a schema's parsing
//! canonical form.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apache_avro::Schema;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::avro::wire::SchemaRef;
use crate::catalog::load::avsc_files;

/// The schemas of a folder: input tables, their older versions (`versions/`), outputs (`outputs/`)
/// and their older versions.
#[derive(Clone, Debug, Default)]
pub struct FolderRegistry {
    by_id: HashMap<u32, FolderSchema>,
    by_guid: HashMap<[u8; 16], u32>,
    by_fingerprint: HashMap<u64, u32>,
}

#[derive(Clone, Debug)]
struct FolderSchema {
    path: PathBuf,
    json: Arc<str>,
    /// All that decides what its bytes mean.
    meaning: Json,
}

/// A schemas folder that cannot serve as a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A folder or file cannot be read.
    #[error(
        "{path}: cannot be read: {source}; name a folder of .avsc files that this user may read"
    )]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file is not an Avro schema.
    #[error(
        "{path}: is not an Avro schema: {why}; each file stands alone: types it names must be defined in it"
    )]
    NotASchema {
        /// The file, or `schema` for one given as text.
        path: PathBuf,
        /// The parser's message.
        why: String,
    },
    /// Two schemas would have one id, though their bytes mean different things.
    #[error(
        "{first} and {second} would both be schema {id}; rename a field of one: logical types alone do not make schemas differ"
    )]
    Collision {
        id: u32,
        first: PathBuf,
        second: PathBuf,
    },
}

impl FolderRegistry {
    /// Reads `dir`, `dir/versions`, `dir/outputs` and `dir/outputs/versions`; the subfolders may be
    /// absent.
    ///
    /// # Errors
    /// A file that is no schema, or two schemas of one id. Files whose schemas mean the same are
    /// one schema: the first counts.
    pub fn load(dir: &Path) -> Result<FolderRegistry, RegistryError> {
        let mut registry = FolderRegistry::default();
        for folder in [
            dir.to_owned(),
            dir.join("versions"),
            dir.join("outputs"),
            dir.join("outputs/versions"),
        ] {
            if folder != dir && !folder.is_dir() {
                continue;
            }
            let files = avsc_files(&folder).map_err(|source| RegistryError::Unreadable {
                path: folder.clone(),
                source,
            })?;
            for path in files {
                let json =
                    std::fs::read_to_string(&path).map_err(|source| RegistryError::Unreadable {
                        path: path.clone(),
                        source,
                    })?;
                registry.add(path, json)?;
            }
        }
        Ok(registry)
    }

    /// The schema with this id or GUID, as JSON.
    pub fn get(&self, schema: SchemaRef) -> Option<Arc<str>> {
        let id = match schema {
            SchemaRef::Id(id) => id,
            SchemaRef::Guid(guid) => *self.by_guid.get(&guid)?,
            SchemaRef::Fingerprint(fingerprint) => *self.by_fingerprint.get(&fingerprint)?,
        };
        self.by_id.get(&id).map(|entry| entry.json.clone())
    }

    /// The id of a schema, whether a folder holds it or not.
    ///
    /// # Errors
    /// The text is not an Avro schema.
    pub fn id_of(json: &str) -> Result<u32, RegistryError> {
        identify(Path::new("schema"), json).map(|names| names.id)
    }

    fn add(&mut self, path: PathBuf, json: String) -> Result<(), RegistryError> {
        let SchemaNames {
            id,
            guid,
            fingerprint,
            meaning,
        } = identify(&path, &json)?;
        match self.by_id.get(&id) {
            Some(entry) if entry.meaning != meaning => {
                return Err(RegistryError::Collision {
                    id,
                    first: entry.path.clone(),
                    second: path,
                });
            }
            Some(_) => {}
            None => {
                self.by_id.insert(
                    id,
                    FolderSchema {
                        path,
                        json: json.into(),
                        meaning,
                    },
                );
                self.by_guid.insert(guid, id);
                self.by_fingerprint.insert(fingerprint, id);
            }
        }
        Ok(())
    }
}

/// The names of a schema, and its meaning.
struct SchemaNames {
    id: u32,
    guid: [u8; 16],
    fingerprint: u64,
    meaning: Json,
}

/// CRC-64-AVRO, as [the
/// specification](https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints) defines
/// it.
fn fingerprint(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    let mut crc = EMPTY;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { EMPTY } else { 0 };
        }
    }
    crc
}

fn identify(path: &Path, json: &str) -> Result<SchemaNames, RegistryError> {
    let schema = Schema::parse_str(json).map_err(|e| RegistryError::NotASchema {
        path: path.to_owned(),
        why: e.to_string(),
    })?;
    let canonical = schema.canonical_form();
    let digest = Sha256::digest(&canonical);
    let (id, _) = digest
        .split_first_chunk::<4>()
        .expect("SHA-256 has 32 bytes");
    let (guid, _) = digest
        .split_first_chunk::<16>()
        .expect("SHA-256 has 32 bytes");
    let meaning =
        serde_json::to_value(&schema)
            .map(meaning)
            .map_err(|e| RegistryError::NotASchema {
                path: path.to_owned(),
                why: e.to_string(),
            })?;
    Ok(SchemaNames {
        id: u32::from_be_bytes(*id) >> 1,
        guid: *guid,
        fingerprint: fingerprint(canonical.as_bytes()),
        meaning,
    })
}

/// A schema without what does not change the meaning of its bytes: documentation, defaults,
/// aliases, annotations.
fn meaning(schema: Json) -> Json {
    const KEPT: [&str; 11] = [
        "type",
        "name",
        "namespace",
        "fields",
        "symbols",
        "items",
        "values",
        "size",
        "logicalType",
        "precision",
        "scale",
    ];
    match schema {
        Json::Object(members) => members
            .into_iter()
            .filter(|(name, _)| KEPT.contains(&name.as_str()))
            .map(|(n, v)| (n, meaning(v)))
            .collect(),
        Json::Array(items) => items.into_iter().map(meaning).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = r#"{"type":"record","name":"A","namespace":"n","doc":"new","fields":[{"name":"x","type":"long","default":1},{"name":"y","type":"string","default":""}]}"#;
    const V1: &str =
        r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"x","type":"long"}]}"#;
    const TIMED: &str = r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"x","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, json) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, json).unwrap();
        }
        dir
    }

    #[test]
    fn every_schema_has_an_id_and_a_guid_of_its_own() {
        let dir = folder(&[
            ("a.avsc", V2),
            ("versions/a-1.avsc", V1),
            ("outputs/s.avsc", r#""string""#),
        ]);
        let registry = FolderRegistry::load(dir.path()).unwrap();
        for json in [V2, V1, r#""string""#] {
            let id = FolderRegistry::id_of(json).unwrap();
            assert!(id < 1 << 31);
            assert_eq!(registry.get(SchemaRef::Id(id)).as_deref(), Some(json));
        }
        // SHA-256 of the canonical form of "string", known from the Avro specification: "string"
        // with its quotes.
        let digest = Sha256::digest(r#""string""#);
        let guid: [u8; 16] = digest[..16].try_into().unwrap();
        assert_eq!(
            registry.get(SchemaRef::Guid(guid)).as_deref(),
            Some(r#""string""#)
        );
        assert_eq!(registry.get(SchemaRef::Id(1)), None);
        // The fingerprint of "string" is one of the specification's own test data.
        let fingerprint = SchemaRef::Fingerprint(0x8f01_4872_6345_03c7);
        assert_eq!(registry.get(fingerprint).as_deref(), Some(r#""string""#));
    }

    #[test]
    fn the_same_schema_twice_is_one_and_two_meanings_of_one_id_are_an_error() {
        let documented = V1.replace(r#""namespace""#, r#""doc":"the same bytes","namespace""#);
        FolderRegistry::load(folder(&[("a.avsc", V1), ("versions/b.avsc", &documented)]).path())
            .unwrap();
        let micros = TIMED.replace("millis", "micros");
        let error =
            FolderRegistry::load(folder(&[("a.avsc", TIMED), ("versions/b.avsc", &micros)]).path())
                .unwrap_err();
        assert!(matches!(error, RegistryError::Collision { .. }), "{error}");
        let error = FolderRegistry::load(folder(&[("a.avsc", "{}")]).path()).unwrap_err();
        assert!(error.to_string().contains("a.avsc"), "{error}");
    }
}
