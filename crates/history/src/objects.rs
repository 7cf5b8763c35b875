//! Objects of a store become local copies, which are read like all files.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use leadpulse_schema::FileOrigin;

use crate::places::{FoundFile, PlaceError, fits, is_glob};

/// Bytes of an object that are in memory at a time.
const PART_BYTES: u64 = 8 << 20;

/// The store of an address, with credentials from its usual variables of the environment.
///
/// # Errors
/// A store that the program was built without, or credentials that are missing.
#[cfg(feature = "object-stores")]
pub(crate) fn store_of(
    url: &str,
    scheme: &str,
    #[cfg_attr(not(feature = "tls"), expect(unused_variables))] bucket: &str,
) -> Result<Arc<dyn ObjectStore>, PlaceError> {
    // The only provider of the program; another part may have installed it before.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    match scheme {
        #[cfg(feature = "s3")]
        "s3" => {
            let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket);
            let built = builder.build().map_err(|error| refused(url, error))?;
            Ok(Arc::new(built))
        }
        #[cfg(feature = "gs")]
        "gs" => {
            let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env();
            let built = builder.with_bucket_name(bucket).build();
            Ok(Arc::new(built.map_err(|error| refused(url, error))?))
        }
        #[cfg(feature = "az")]
        "az" => {
            let builder = object_store::azure::MicrosoftAzureBuilder::from_env();
            let built = builder.with_container_name(bucket).build();
            Ok(Arc::new(built.map_err(|error| refused(url, error))?))
        }
        _ => Err(crate::places::not_built(url, scheme)),
    }
}

fn refused(url: &str, error: object_store::Error) -> PlaceError {
    PlaceError::Store {
        url: url.to_owned(),
        why: error.to_string(),
    }
}

/// Copies the objects that a pattern names, in order of their names. `address` is the store's, for
/// messages.
///
/// # Errors
/// The store refuses, or the temporary folder has no room.
pub(crate) fn fetch(
    store: &Arc<dyn ObjectStore>,
    address: &str,
    pattern: &str,
) -> Result<Vec<FoundFile>, PlaceError> {
    let whole = format!("{address}/{pattern}");
    let copying = |source| PlaceError::Copy {
        url: whole.clone(),
        folder: std::env::temp_dir(),
        source,
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(copying)?;
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let mut objects = Vec::new();
    if is_glob(pattern) {
        let listed = list(store, &runtime, None, &parts, &mut objects);
        listed.map_err(|error| refused(&whole, error))?;
        objects.sort();
        objects.dedup();
    } else {
        let path = ObjectPath::from(pattern);
        match runtime.block_on(store.head(&path)) {
            Ok(_) => objects.push(path),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(refused(&whole, error)),
        }
    }
    let folder = Arc::new(TempDir::new().map_err(copying)?);
    let mut found = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        let url = format!("{address}/{object}");
        let within = folder.path().join(number.to_string());
        std::fs::create_dir(&within).map_err(copying)?;
        // The name says the format.
        let path = within.join(object.filename().unwrap_or("object"));
        tracing::info!(object = url, "copying to the temporary folder");
        copy(store, &runtime, object, &url, path.clone())?;
        found.push(FoundFile {
            path,
            origin: Some(FileOrigin {
                name: url,
                copy: folder.clone(),
            }),
        });
    }
    Ok(found)
}

/// Collects the objects below `folder` that the parts of a pattern fit. Folders that do not fit are
/// not listed: a bucket may have millions of objects.
fn list(
    store: &Arc<dyn ObjectStore>,
    runtime: &Runtime,
    folder: Option<&ObjectPath>,
    parts: &[&str],
    found: &mut Vec<ObjectPath>,
) -> object_store::Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    if *part != "**" && !is_glob(part) && !rest.is_empty() {
        let below = match folder {
            Some(folder) => ObjectPath::from(format!("{folder}/{part}")),
            None => ObjectPath::from(*part),
        };
        return list(store, runtime, Some(&below), rest, found);
    }
    if *part == "**" {
        list(store, runtime, folder, rest, found)?;
    }
    let listed = runtime.block_on(store.list_with_delimiter(folder))?;
    for below in &listed.common_prefixes {
        let name = below.filename().unwrap_or_default();
        if *part == "**" {
            list(store, runtime, Some(below), parts, found)?;
        } else if fits(part, name) {
            list(store, runtime, Some(below), rest, found)?;
        }
    }
    if rest.is_empty() && *part != "**" {
        let objects = listed.objects.into_iter().map(|object| object.location);
        found.extend(objects.filter(|path| path.filename().is_some_and(|name| fits(part, name))));
    }
    Ok(())
}

fn copy(
    store: &Arc<dyn ObjectStore>,
    runtime: &Runtime,
    object: &ObjectPath,
    url: &str,
    path: PathBuf,
) -> Result<(), PlaceError> {
    let copying = |source| PlaceError::Copy {
        url: url.to_owned(),
        folder: std::env::temp_dir(),
        source,
    };
    let head = runtime.block_on(store.head(object));
    let size = head.map_err(|error| refused(url, error))?.size;
    let mut file = File::create(path).map_err(copying)?;
    let mut from = 0;
    while from < size {
        let to = (from + PART_BYTES).min(size);
        let part = runtime.block_on(store.get_range(object, from..to));
        let part = part.map_err(|error| refused(url, error))?;
        file.write_all(&part).map_err(copying)?;
        from = to;
    }
    file.flush().map_err(copying)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn objects_are_copied_by_name_and_by_pattern_and_the_copies_end() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let runtime = Builder::new_current_thread().build().unwrap();
        let large = "x".repeat(PART_BYTES as usize + 5);
        let objects = [
            ("crm/2024/events-1.csv", "one"),
            ("crm/2024/other.csv", "no"),
            ("crm/2025/events-2.csv", large.as_str()),
            ("crm/events-3.csv", "three"),
            ("top.csv", "top"),
        ];
        for (name, text) in objects {
            let path = ObjectPath::from(name);
            let put = store.put(&path, text.to_owned().into());
            runtime.block_on(put).unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = fetch(&store, "s3://b", pattern).unwrap();
            let names: Vec<&str> = found
                .iter()
                .map(|file| file.origin.as_ref().unwrap().name.as_str())
                .collect();
            assert_eq!(names, expected, "{pattern}");
            found
        };
        let found = check(
            "crm/*/events-*.csv",
            &[
                "s3://b/crm/2024/events-1.csv",
                "s3://b/crm/2025/events-2.csv",
            ],
        );
        assert_eq!(std::fs::read_to_string(&found[1].path).unwrap(), large);
        assert!(found[0].path.ends_with("events-1.csv"));
        let path = found[0].path.clone();
        drop(found);
        assert!(!path.exists(), "a copy ends with its file");
        check("top.csv", &["s3://b/top.csv"]);
        check("none.csv", &[]);
        check("crm/events-3.csv", &["s3://b/crm/events-3.csv"]);
        check("*", &["s3://b/top.csv"]);
        check(
            "**/events-*.csv",
            &[
                "s3://b/crm/2024/events-1.csv",
                "s3://b/crm/2025/events-2.csv",
                "s3://b/crm/events-3.csv",
            ],
        );
    }
}
