//! Rules of the house: checks that the documents, the crates' manifests and the sources agree. Files are read, nothing is built.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that take data and time as arguments. Everything else they need is a port.
const PURE: [&str; 8] = [
    "schema", "pql", "policy", "graph", "features", "project", "records", "engine",
];

/// Dependencies that bring input, output, threads of their own or tensors.
const IMPURE_LIBRARIES: [&str; 8] = [
    "tokio", "rdkafka", "burn", "axum", "reqwest", "hyper", "rand", "tempfile",
];

/// Calls that read something which is not an argument.
const IMPURE_CALLS: [&str; 6] = [
    "Instant::now",
    "SystemTime::now",
    "thread::sleep",
    "std::env::",
    "env::var",
    "fs::",
];

/// Exceptions of [`IMPURE_CALLS`]: crate, start of the path below `src/`, call, reason.
const ALLOWED: [(&str, &str, &str, &str); 1] = [(
    "schema",
    "",
    "fs::",
    "loads folders of schemas and opens files of history",
)];

/// Libraries that one crate links, so that one crate has to change with them.
const ONE_HOME: [(&str, &str); 6] = [
    ("rdkafka", "kafka"),
    ("burn", "model"),
    ("forust-ml", "model"),
    ("axum", "server"),
    ("mimalloc", "cli"),
    ("ariadne", "pql"),
];

const MOST_LINES_OF_A_DECISION: usize = 40;
const MOST_LINES_OF_THE_MAP: usize = 150;

/// The repository: the folder above, or the working folder where this file is built without cargo.
fn root() -> PathBuf {
    match option_env!("CARGO_MANIFEST_DIR") {
        Some(folder) => Path::new(folder).ancestors().nth(2).unwrap().to_owned(),
        None => std::env::current_dir().unwrap(),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder of the repository, in order of path, without what builds and tools leave there.
fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The names of the folders in `crates/`.
fn crates() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("crates")).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A row of the code map.
struct MapRow {
    name: String,
    sentence: String,
    uses: BTreeSet<String>,
}

/// The rows of the code map, in its order.
fn code_map() -> Vec<MapRow> {
    let text = read("ARCHITECTURE.md");
    let table = text
        .split("| crate | its sentence | uses |")
        .nth(1)
        .expect("ARCHITECTURE.md has a table: crate, its sentence, uses");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let words = cells[2].split(',').map(str::trim);
        MapRow {
            name: cells[0].trim_matches('`').to_owned(),
            sentence: cells[1].trim_end_matches('.').to_owned(),
            uses: words
                .filter(|word| *word != "–")
                .map(str::to_owned)
                .collect(),
        }
    })
    .collect()
}

/// Names of the dependencies of a package, without those that only its tests have.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut wanted = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            wanted = section == "dependencies"
                || (section.starts_with("target.") && section.ends_with(".dependencies"))
                || section == "build-dependencies";
        } else if wanted && !line.starts_with('#') {
            let name: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect();
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

fn manifest(name: &str) -> String {
    read(format!("crates/{name}/Cargo.toml"))
}

/// The crates of this workspace that a crate depends on, tests aside.
fn arrows(name: &str) -> BTreeSet<String> {
    dependencies(&manifest(name))
        .iter()
        .filter_map(|dependency| dependency.strip_prefix("leadpulse-"))
        .map(str::to_owned)
        .collect()
}

/// Everything that can be reached from a crate along the map's arrows.
fn reachable(map: &[MapRow], from: &str) -> BTreeSet<String> {
    let uses: BTreeMap<&str, &BTreeSet<String>> = map
        .iter()
        .map(|row| (row.name.as_str(), &row.uses))
        .collect();
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from.to_owned()];
    while let Some(name) = waiting.pop() {
        for used in uses.get(name.as_str()).into_iter().copied().flatten() {
            if reached.insert(used.clone()) {
                waiting.push(used.clone());
            }
        }
    }
    reached
}

fn fail_with(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_map_is_the_code() {
    let map = code_map();
    let named: BTreeSet<String> = map.iter().map(|row| row.name.clone()).collect();
    let mut faults = Vec::new();
    for name in crates().symmetric_difference(&named) {
        faults.push(format!("{name}: in crates/ or in the map, not in both"));
    }
    for row in map.iter().filter(|row| crates().contains(&row.name)) {
        let (real, allowed) = (arrows(&row.name), reachable(&map, &row.name));
        for extra in real.difference(&allowed) {
            faults.push(format!(
                "{}: depends on {extra}, which the map lacks",
                row.name
            ));
        }
        let reached: BTreeSet<String> = real
            .iter()
            .flat_map(|used| reachable(&map, used))
            .chain(real.clone())
            .collect();
        for missing in row.uses.difference(&reached) {
            faults.push(format!(
                "{}: the map has {missing}, Cargo.toml has not",
                row.name
            ));
        }
    }
    let lines = read("ARCHITECTURE.md").lines().count();
    if lines > MOST_LINES_OF_THE_MAP {
        faults.push(format!(
            "ARCHITECTURE.md: {lines} lines, {MOST_LINES_OF_THE_MAP} at most"
        ));
    }
    fail_with(&faults);
}

#[test]
fn arrows_point_up_without_circles() {
    let order: BTreeMap<String, usize> = code_map()
        .into_iter()
        .enumerate()
        .map(|(place, row)| (row.name, place))
        .collect();
    let mut faults = Vec::new();
    for name in crates() {
        for used in arrows(&name) {
            if order.get(&used) >= order.get(&name) {
                faults.push(format!(
                    "{name}: uses {used}, which is not above it in the map"
                ));
            }
        }
    }
    fail_with(&faults);
}

/// Whether a source file contains tests only.
fn is_of_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy();
    let in_folder = path
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "testing");
    in_folder || stem.ends_with("tests") || stem == "testing" || stem == "scenarios"
}

/// Code lines with their numbers, without comments and without items under `#[cfg(test)]`.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut depth = 0_i32;
    let mut skipping = false;
    let mut pending = false;
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap();
        if code.trim() == "#[cfg(test)]" {
            pending = true;
            continue;
        }
        if pending && !code.trim().starts_with("#[") && !code.trim().is_empty() {
            (pending, skipping, depth) = (false, true, 0);
        }
        if skipping {
            let opened = code.matches('{').count() as i32;
            depth += opened - code.matches('}').count() as i32;
            let ends = depth <= 0 && (opened > 0 || code.contains('}') || code.contains(';'));
            skipping = !ends;
        } else if !pending {
            kept.push((number + 1, code));
        }
    }
    kept
}

#[test]
fn pure_crates_stay_pure() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for name in PURE.into_iter().filter(|name| crates().contains(*name)) {
        for library in dependencies(&manifest(name)) {
            if IMPURE_LIBRARIES.contains(&library.as_str()) {
                faults.push(format!("{name}: depends on {library}"));
            }
        }
        let source = format!("crates/{name}/src");
        for path in files_below(&source, "rs") {
            if is_of_tests(path.strip_prefix(root().join(&source)).unwrap()) {
                continue;
            }
            let inside = path.strip_prefix(root().join(&source)).unwrap();
            let inside = inside.display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            for (number, code) in code_lines(&text) {
                for call in IMPURE_CALLS.into_iter().filter(|call| code.contains(call)) {
                    let allowed = ALLOWED.iter().position(|(of, start, what, _)| {
                        *of == name && inside.starts_with(start) && *what == call
                    });
                    match allowed {
                        Some(exception) => _ = used.insert(exception),
                        None => faults.push(format!("{}:{number}: {call}", shown(&path))),
                    }
                }
            }
        }
    }
    for (place, (name, start, call, _)) in ALLOWED.iter().enumerate() {
        if !used.contains(&place) {
            eprintln!("no longer needed in ALLOWED: {name} {start} {call}");
        }
    }
    fail_with(&faults);
}

#[test]
fn each_library_is_linked_in_one_crate() {
    let mut faults = Vec::new();
    for name in crates() {
        // Tests of other crates may read Kafka with a client of their own.
        let linked = dependencies(&manifest(&name));
        for (library, home) in ONE_HOME {
            if linked.contains(library) && name != home {
                faults.push(format!("{name}: links {library}, which is for {home} only"));
            }
        }
    }
    fail_with(&faults);
}

/// Names of all functions in sources and tests.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["crates", "tests", "benches"] {
        for path in files_below(folder, "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                let Some((_, after)) = line.split_once("fn ") else {
                    continue;
                };
                let name = after
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_');
                found.insert(name.collect());
            }
        }
    }
    found
}

#[test]
fn promised_tests_exist() {
    let functions = functions();
    let text = read("docs/promises.md");
    let promised: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`'))
        .collect();
    assert!(
        promised.len() > 50,
        "docs/promises.md names tests, one a line"
    );
    let missing = promised.iter().filter(|name| !functions.contains(**name));
    let faults: Vec<String> = missing
        .map(|name| format!("docs/promises.md: there is no test {name}"))
        .collect();
    fail_with(&faults);
}

/// The first sentence of a crate's documentation.
fn first_sentence(name: &str) -> String {
    let folder = root().join(format!("crates/{name}/src"));
    let path = ["lib.rs", "main.rs"].map(|file| folder.join(file));
    let path = path.iter().find(|path| path.exists()).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    let sentence = paragraph.split(". ").next().unwrap();
    sentence.trim_end_matches('.').to_owned()
}

#[test]
fn crates_begin_with_their_sentence() {
    let crates = crates();
    let mut faults = Vec::new();
    for row in code_map().iter().filter(|row| crates.contains(&row.name)) {
        let sentence = first_sentence(&row.name);
        if sentence != row.sentence {
            faults.push(format!(
                "{}: the code says {sentence:?}, the map {:?}",
                row.name, row.sentence
            ));
        }
    }
    fail_with(&faults);
}

#[test]
fn decisions_are_short_and_indexed() {
    let index = read("docs/decisions/README.md");
    let mut faults = Vec::new();
    for path in files_below("docs/decisions", "md") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if text.lines().count() > MOST_LINES_OF_A_DECISION {
            faults.push(format!(
                "{name}: more than {MOST_LINES_OF_A_DECISION} lines"
            ));
        }
        if !index.contains(&format!("({name})")) {
            faults.push(format!("{name}: not in the index"));
        }
        let parts = [
            "Context",
            "Decision",
            "Measured",
            "Consequences",
            "Revisit when",
        ];
        for part in parts
            .into_iter()
            .filter(|part| !text.contains(&format!("**{part}")))
        {
            faults.push(format!("{name}: has no part {part:?}"));
        }
    }
    fail_with(&faults);
}

/// Names of decisions that a text links to as `docs/decisions/NAME`.
fn linked_decisions(text: &str) -> impl Iterator<Item = &str> {
    text.split("docs/decisions/").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c)));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
    })
}

#[test]
fn code_and_decisions_are_linked() {
    let (mut linked, mut faults) = (BTreeSet::new(), Vec::new());
    for path in files_below("crates", "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for name in linked_decisions(&text) {
            if !root().join("docs/decisions").join(name).exists() {
                faults.push(format!("{}: there is no decision {name}", shown(&path)));
            }
            linked.insert(name.to_owned());
        }
    }
    for path in files_below("docs/decisions", "md") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "README.md" && !linked.contains(&name) {
            faults.push(format!("{name}: no code links to it"));
        }
    }
    fail_with(&faults);
}

/// Every page that readers of the repository see.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.extend(files_below("docs", "md"));
    pages.extend(files_below("examples", "md"));
    pages.sort();
    pages
}

/// A heading as a link names it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let letters = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
        _ => None,
    });
    letters.collect()
}

/// The targets of a page's links: the part in round brackets after a square one.
fn links(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.contains(' ') || link.is_empty() {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            if !target.exists() {
                faults.push(format!("{}: there is no {link}", shown(&page)));
            } else if !place.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                if !headings.any(|heading| anchor(heading) == place) {
                    faults.push(format!("{}: {link} has no such heading", shown(&page)));
                }
            }
        }
    }
    fail_with(&faults);
}

/// The value of a key in a file of `key = "value"` or `key: value` lines.
fn value_of(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
    let value = line.unwrap_or_else(|| panic!("no line begins with {key}"));
    value.trim_matches([' ', '=', ':', '"']).to_owned()
}

#[test]
fn packages_have_the_versions_of_the_workspace() {
    let workspace = read("Cargo.toml");
    let version = value_of(&workspace, "version");
    let chart = read("deploy/helm/leadpulse/Chart.yaml");
    assert_eq!(value_of(&chart, "version:"), version);
    assert_eq!(value_of(&chart, "appVersion:"), version);
    let wheel = read("python/pyproject.toml");
    assert_eq!(value_of(&wheel, "version ="), version);
    // The gate builds with the least version that the manifest promises.
    let least = value_of(&workspace, "rust-version");
    let channel = value_of(&read("rust-toolchain.toml"), "channel");
    assert_eq!(channel, format!("{least}.0"));
    let image = format!("FROM rust:{channel}-");
    assert!(read("Dockerfile").contains(&image), "Dockerfile: {image}");
}

#[test]
fn the_chart_has_the_rules() {
    let rules = read("deploy/prometheus/rules.yml");
    assert!(
        read("deploy/helm/leadpulse/files/rules.yml") == rules,
        "copy deploy/prometheus/rules.yml to deploy/helm/leadpulse/files/"
    );
}

/// A fault that no longer fits the code finds nothing.
#[test]
fn planted_faults_fit_the_code() {
    let patches = files_below("tests/mutants", "patch");
    assert!(patches.len() > 10, "there are patches");
    let unfit = patches.iter().filter_map(|patch| {
        let mut git = std::process::Command::new("git");
        let checked = git
            .args(["apply", "--check"])
            .arg(patch)
            .current_dir(root());
        let checked = checked.output().expect("git is there");
        let told = String::from_utf8_lossy(&checked.stderr);
        (!checked.status.success()).then(|| format!("{}: {told}", shown(patch)))
    });
    fail_with(&unfit.collect::<Vec<_>>());
}

#[test]
fn documents_stay_inside_the_repository() {
    let mut faults = Vec::new();
    let mut read_by_users = pages();
    for extension in ["toml", "sh", "py", "avsc"] {
        read_by_users.extend(files_below("examples", extension));
    }
    for page in read_by_users {
        let text = fs::read_to_string(&page).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.contains("../shared") || line.contains("/work/") {
                faults.push(format!("{}:{}: {}", shown(&page), number + 1, line.trim()));
            }
        }
    }
    fail_with(&faults);
}
