//! The files that a pattern names: in folders, or in an object store.
//!
//! Decision: docs/decisions/0036-keys-parquet-and-places.md

use std::io;
use std::path::{Path, PathBuf};

use leadpulse_schema::FileOrigin;

/// A file that a pattern names.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// The file, or its local copy.
    pub path: PathBuf,
    /// The place that a copy came from; `None` for a local file.
    pub origin: Option<FileOrigin>,
}

/// Files that cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A folder cannot be listed.
    #[error("{folder}: cannot be listed: {source}")]
    Unlisted { folder: PathBuf, source: io::Error },
    /// The program was built without the store of an address.
    #[error(
        "{url}: this program reads no {store}; build it with the feature: cargo build --release -p leadpulse --features {feature}"
    )]
    NotBuilt {
        url: String,
        /// The store's name, for people.
        store: &'static str,
        /// The feature of the package `leadpulse`.
        feature: &'static str,
    },
    /// An address of an unknown kind.
    #[error("{url}: its kind is not known; write s3://, gs:// or az:// with a bucket, or a path")]
    UnknownStore { url: String },
    /// The store does not answer, refuses, or has no such object.
    #[error("{url}: {why}; check the bucket, the credentials in the environment and the network")]
    Store {
        url: String,
        /// The store's answer.
        why: String,
    },
    /// An object cannot be copied to the temporary folder.
    #[error(
        "{url}: cannot be copied to the temporary folder {folder}: {source}; make room there, or name another with \
         TMPDIR"
    )]
    Copy {
        url: String,
        folder: PathBuf,
        source: io::Error,
    },
}

/// True for a pattern, whose files may be many; false for the name of one file.
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains('*')
}

/// The files that a pattern names, sorted by name. It is relative to `data`, unless it is an address
/// itself. In each part of the path `*` stands for any text; the part `**` stands for any folders, or
/// none. Objects of a store are copied to the temporary folder, since files are read several times;
/// the copies end with their last [`FileOrigin`].
///
/// # Errors
/// A folder or store that cannot be listed or read.
pub fn find_files(data: &Path, pattern: &str) -> Result<Vec<FoundFile>, PlaceError> {
    let whole = match pattern.contains("://") {
        true => pattern.to_owned(),
        false => data.join(pattern).to_string_lossy().into_owned(),
    };
    if let Some((scheme, rest)) = whole.split_once("://") {
        return in_store(&whole, scheme, rest);
    }
    let mut found = Vec::new();
    let path = data.join(pattern);
    if is_glob(pattern) {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let start = match pattern.starts_with('/') {
            true => PathBuf::from("/"),
            false => data.to_owned(),
        };
        walk(&start, &parts, &mut found)?;
        found.sort();
        found.dedup();
    } else if path.exists() {
        found.push(path);
    }
    let local = |path| FoundFile { path, origin: None };
    Ok(found.into_iter().map(local).collect())
}

/// Collects the files below `folder` that the parts of a pattern fit.
fn walk(folder: &Path, parts: &[&str], found: &mut Vec<PathBuf>) -> Result<(), PlaceError> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    if *part == "**" {
        // No folder, or one and then again any.
        walk(folder, rest, found)?;
        for entry in entries(folder)? {
            // A link may lead back up.
            if entry.is_dir() && !entry.is_symlink() {
                walk(&entry, parts, found)?;
            }
        }
        return Ok(());
    }
    if !is_glob(part) {
        let path = folder.join(part);
        match rest.is_empty() {
            true if path.is_file() => found.push(path),
            false if path.is_dir() => walk(&path, rest, found)?,
            _ => {}
        }
        return Ok(());
    }
    for entry in entries(folder)? {
        let name = entry.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| fits(part, name)) {
            continue;
        }
        match rest.is_empty() {
            true if entry.is_file() => found.push(entry),
            false if entry.is_dir() => walk(&entry, rest, found)?,
            _ => {}
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PlaceError> {
    let unlisted = |source| PlaceError::Unlisted {
        folder: folder.to_owned(),
        source,
    };
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unlisted(error)),
    };
    let mut paths = Vec::new();
    for entry in listed {
        paths.push(entry.map_err(unlisted)?.path());
    }
    Ok(paths)
}

/// True if a name matches a pattern in which each `*` stands for any text, or none.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(feature = "object-stores")]
fn in_store(url: &str, scheme: &str, rest: &str) -> Result<Vec<FoundFile>, PlaceError> {
    let (bucket, pattern) = rest.split_once('/').unwrap_or((rest, ""));
    let store = crate::objects::store_of(url, scheme, bucket)?;
    let address = format!("{scheme}://{bucket}");
    crate::objects::fetch(&store, &address, pattern)
}

#[cfg(not(feature = "object-stores"))]
fn in_store(url: &str, scheme: &str, _: &str) -> Result<Vec<FoundFile>, PlaceError> {
    Err(not_built(url, scheme))
}

/// The object store of an address, and the path in it: `s3://bucket/path`. Credentials come from
/// the usual variables of the environment.
///
/// # Errors
/// Credentials that are missing, a kind of store that the program was built without.
#[cfg(feature = "object-stores")]
pub fn object_store_at(
    url: &str,
) -> Result<(std::sync::Arc<dyn object_store::ObjectStore>, &str), PlaceError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((crate::objects::store_of(url, scheme, bucket)?, path))
}

/// The error for the address of a store that the program was built without, or does not know.
pub fn store_not_built(url: &str) -> PlaceError {
    not_built(url, url.split_once("://").map_or("", |(scheme, _)| scheme))
}

/// The error for a store that the program was built without, or does not know.
pub(crate) fn not_built(url: &str, scheme: &str) -> PlaceError {
    let (store, feature) = match scheme {
        "s3" => ("S3", "s3"),
        "gs" => ("Google Cloud Storage", "gs"),
        "az" => ("Azure Blob Storage", "az"),
        _ => {
            return PlaceError::UnknownStore {
                url: url.to_owned(),
            };
        }
    };
    PlaceError::NotBuilt {
        url: url.to_owned(),
        store,
        feature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_may_be_a_pattern() {
        let data = tempfile::tempdir().unwrap();
        let files = [
            "top.csv",
            "a/events-1.csv",
            "a/events-1.csv.gz",
            "a/other.csv",
            "b/events-2.csv",
            "b/deep/er/events-3.csv",
        ];
        for file in files {
            let path = data.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = find_files(data.path(), pattern).unwrap();
            let names: Vec<String> = found
                .iter()
                .map(|file| {
                    let relative = file.path.strip_prefix(data.path()).unwrap();
                    relative.to_string_lossy().into_owned()
                })
                .collect();
            assert_eq!(names, expected, "{pattern}");
        };
        check("top.csv", &["top.csv"]);
        check("none.csv", &[]);
        check("*/events-*.csv", &["a/events-1.csv", "b/events-2.csv"]);
        check("a*/*1.csv*", &["a/events-1.csv", "a/events-1.csv.gz"]);
        check(
            "**/events-*.csv",
            &["a/events-1.csv", "b/deep/er/events-3.csv", "b/events-2.csv"],
        );
        check("b/**/*.csv", &["b/deep/er/events-3.csv", "b/events-2.csv"]);
        check("none/*.csv", &[]);
        check("*", &["top.csv"]);
        check("a/*-*-*.csv", &[]);
        let absolute = data.path().join("*/other.csv");
        check(absolute.to_str().unwrap(), &["a/other.csv"]);
    }

    #[test]
    fn a_store_that_is_not_built_in_is_named_with_its_feature() {
        let words = |data: &str, pattern: &str| {
            find_files(Path::new(data), pattern)
                .unwrap_err()
                .to_string()
        };
        #[cfg(not(feature = "s3"))]
        for (data, pattern) in [("s3://bucket/day", "*.csv"), (".", "s3://bucket/a.csv")] {
            let error = words(data, pattern);
            assert!(error.contains("--features s3"), "{error}");
            assert!(error.contains("s3://bucket/"), "{error}");
        }
        let error = words("ftp://host", "a.csv");
        assert!(error.contains("its kind is not known"), "{error}");
    }
}
