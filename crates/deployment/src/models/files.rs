//! Files of the registry, each written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use leadpulse_model::Manifest;

use super::ModelsError;

/// Files beside those that a manifest lists: the manifest, and the reports for people.
const BESIDE: [&str; 3] = ["manifest.json", "report.json", "report.html"];

/// The text of a file; `None` if there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, ModelsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelsError::io("read", path, source)),
    }
}

/// Names of what a folder holds, sorted, without files that are being written. Empty without a
/// folder.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, ModelsError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ModelsError::io("read", dir, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| ModelsError::io("read", dir, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Puts a file with a text in the place of the one before, at once.
pub(crate) fn replace_file(path: &Path, text: &str) -> Result<(), ModelsError> {
    let fail = |source| ModelsError::io("write", path, source);
    let partial = hidden(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(fail)
}

/// Copies a bundle to a folder that does not exist.
pub(super) fn copy_bundle(bundle: &Manifest, from: &Path, to: &Path) -> Result<(), ModelsError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelsError::io("write", &path, source)
    };
    let partial = hidden(to);
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(&partial).map_err(fail(&partial))?;
    let listed = bundle.files.keys().map(String::as_str);
    for name in listed.chain(BESIDE) {
        let (source, copy) = (from.join(name), partial.join(name));
        if name.starts_with("report") && !source.exists() {
            continue;
        }
        fs::copy(&source, &copy).map_err(|error| ModelsError::io("read", &source, error))?;
        let copied = File::open(&copy).and_then(|file| file.sync_all());
        copied.map_err(fail(&copy))?;
    }
    fs::rename(&partial, to).map_err(fail(to))?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(fail(folder))
}

/// Removes a folder: it is gone at once, its files after that.
pub(super) fn remove_folder(dir: &Path) -> Result<(), ModelsError> {
    let fail = |source| ModelsError::io("remove", dir, source);
    let hidden = hidden(dir);
    fs::rename(dir, &hidden).map_err(fail)?;
    fs::remove_dir_all(&hidden).map_err(fail)
}

/// A path beside another one for what is being written.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}
