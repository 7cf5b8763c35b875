//! Named objects: files of a folder, or an object store.

use std::path::{Path, PathBuf};

use leadpulse_engine::ports::StoreError;

/// A place of named objects. Names are paths with `/`. An object is whole or not there.
pub(crate) trait Objects: Send + Sync {
    /// Names of all objects below a folder, in no particular order.
    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError>;
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError>;
    /// Removes an object, if it is there.
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// Files of a folder.
pub(crate) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// A folder, which is made if it is not there.
    pub fn new(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Io {
        place: path.display().to_string(),
        fault: error.to_string(),
    }
}

impl Objects for Folder {
    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let dir = self.dir.join(&folder);
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&dir, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed(&dir, &error))?;
                let kind = entry.file_type().map_err(|error| failed(&dir, &error))?;
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                match kind.is_dir() {
                    true => open.push(name),
                    // A file that was not finished is no object.
                    false if name.ends_with(".part") => {}
                    false => names.push(name),
                }
            }
        }
        Ok(names)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.dir.join(name);
        std::fs::read(&path).map_err(|error| failed(&path, &error))
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let part = self.dir.join(format!("{name}.part"));
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
            let mut file = std::fs::File::create(&part)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|error| failed(&path, &error))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&path, &error)),
        }
    }
}

#[cfg(feature = "object-stores")]
pub(crate) use remote::Remote;

#[cfg(feature = "object-stores")]
mod remote {
    use std::sync::Arc;

    use futures_util::TryStreamExt as _;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt as _};
    use tokio::runtime::{Builder, Runtime};

    use leadpulse_engine::ports::StoreError;

    use super::Objects;

    /// Objects under a path of an object store.
    pub(crate) struct Remote {
        target: Arc<dyn ObjectStore>,
        path: String,
        address: String,
        runtime: Runtime,
    }

    impl Remote {
        /// `address` names the store for people.
        pub fn new(
            target: Arc<dyn ObjectStore>,
            path: &str,
            address: &str,
        ) -> Result<Self, StoreError> {
            let runtime = Builder::new_current_thread().enable_all().build();
            let failed = |error: std::io::Error| StoreError::Io {
                place: address.to_owned(),
                fault: error.to_string(),
            };
            Ok(Self {
                runtime: runtime.map_err(failed)?,
                target,
                path: path.trim_matches('/').to_owned(),
                address: address.to_owned(),
            })
        }

        fn path_of(&self, name: &str) -> Path {
            Path::from(format!("{}/{name}", self.path))
        }

        fn failed(&self, error: &object_store::Error) -> StoreError {
            StoreError::Io {
                place: self.address.clone(),
                fault: error.to_string(),
            }
        }
    }

    impl Objects for Remote {
        fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
            let prefix = self.path_of(folder);
            let listed = self.target.list(Some(&prefix));
            let listed = self
                .runtime
                .block_on(listed.map_ok(|object| object.location).try_collect());
            let listed: Vec<Path> = listed.map_err(|error| self.failed(&error))?;
            let own = self.path_of("");
            let name = |path: &Path| {
                let whole = path.as_ref();
                let name = whole.strip_prefix(own.as_ref()).unwrap_or(whole);
                name.trim_start_matches('/').to_owned()
            };
            Ok(listed.iter().map(name).collect())
        }

        fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
            let got = self.runtime.block_on(async {
                let object = self.target.get(&self.path_of(name)).await?;
                object.bytes().await
            });
            Ok(got.map_err(|error| self.failed(&error))?.to_vec())
        }

        fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
            let path = self.path_of(name);
            let put = self.runtime.block_on(self.target.put(&path, bytes.into()));
            put.map(|_| ()).map_err(|error| self.failed(&error))
        }

        fn delete(&self, name: &str) -> Result<(), StoreError> {
            let path = self.path_of(name);
            match self.runtime.block_on(self.target.delete(&path)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed(&error)),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn objects_lie_under_their_path() {
            let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
            let remote = Remote::new(store.clone(), "/team/state/", "memory").unwrap();
            remote.put("chunks/ab/abc", b"one".to_vec()).unwrap();
            remote.put("snapshots/1.json", b"two".to_vec()).unwrap();
            assert_eq!(remote.list("chunks").unwrap(), ["chunks/ab/abc"]);
            assert_eq!(remote.get("snapshots/1.json").unwrap(), b"two");
            let other = Remote::new(store, "other", "memory").unwrap();
            assert!(other.list("chunks").unwrap().is_empty());
            remote.delete("chunks/ab/abc").unwrap();
            remote.delete("chunks/ab/abc").unwrap();
            assert!(remote.list("chunks").unwrap().is_empty());
        }
    }
}
