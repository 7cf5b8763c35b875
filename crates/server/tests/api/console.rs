//! The console's files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Server;

/// Paths of all files below a folder, without those of documents.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_file_of_the_console_is_served_and_needs_nothing_from_elsewhere() {
    let server = Server::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&folder).unwrap().to_str().unwrap();
        let content_type = match file.extension().and_then(|end| end.to_str()) {
            Some("html") => "text/html",
            Some("css") => "text/css",
            Some("js") => "text/javascript",
            Some("svg") => "image/svg",
            other => panic!("{name}: {other:?} is not a type of the console"),
        };
        let path = match name {
            "index.html" => "/".to_owned(),
            name => format!("/{name}"),
        };
        let answer = server.get(&path);
        assert_eq!(answer.code, 200, "{path} is in the folder and not served");
        assert_eq!(answer.body, fs::read_to_string(&file).unwrap());
        assert!(answer.header("content-type").starts_with(content_type));
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let elsewhere = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("://"), "{path} names another origin");
        assert!(
            !elsewhere.contains("style=") && !elsewhere.contains("innerHTML"),
            "{path} has what the policy or good sense forbids"
        );
    }
}

#[test]
fn every_page_of_the_navigation_is_an_address_of_its_own() {
    let server = Server::start();
    let script = server.get("/main.js").body;
    let pages = script.lines().filter_map(|line| {
        let rest = line.strip_prefix("  [\"")?;
        rest.split_once('"').map(|(address, _)| address)
    });
    let pages: Vec<&str> = pages.collect();
    assert!(pages.len() >= 10, "{pages:?}");
    for page in pages {
        let answer = server.get(&format!("/{page}"));
        assert_eq!((answer.code, page), (200, page));
        assert!(answer.body.starts_with("<!doctype html>"));
    }
}
