use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::loaded::Loaded;
use crate::release::Release;

/// A bundle's folder with one graded task. Its weights are no network: a registry loads none.
fn bundle(dir: &Path, name: &str, grade: &str) -> (Manifest, PathBuf) {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("weights-0.bpk"), name).unwrap();
    let hex = |text: &str| leadpulse_schema::hex(&Sha256::digest(text));
    let without_id = json!({
        "format": leadpulse_model::FORMAT_VERSION,
        "bundle_id": "",
        "created_by": "test",
        "created_at": null,
        "plan_hash": "p",
        "catalog_fingerprint": "c",
        "features": { "vocabularies": {} },
        "network": {
            "trunk": { "root_width": 1, "member_widths": [], "member_hidden": 1 },
            "towers": []
        },
        "ensemble": 1,
        "tasks": [{
            "name": "wins", "entity": "accounts", "pql": "", "horizon_ms": 1,
            "head": { "kind": "hazard", "edges_ms": [1], "untrained": 0 },
            "calibration": { "kind": "platt", "slope": 1.0, "intercept": 0.0 },
            "regularisation": {
                "hidden": 1, "dropout_ratio": 0.1, "input_dropout_ratio": 0.1,
                "weight_decay": 0.1, "learning_rate": 0.1, "residual": false, "without": []
            },
            "metrics": {},
            "quality": { "grade": grade, "reasons": [] }
        }],
        "files": { "weights-0.bpk": hex(name) }
    });
    let text = format!("{without_id:#}\n");
    let id = hex(&text)[..16].to_owned();
    let unnamed = "\"bundle_id\": \"\"";
    let named = text.replacen(unnamed, &format!("\"bundle_id\": \"{id}\""), 1);
    fs::write(folder.join("manifest.json"), named).unwrap();
    fs::write(folder.join("report.html"), "for people").unwrap();
    (Bundle::manifest_of(&folder).unwrap(), folder)
}

fn by(at_ms: i64) -> Change {
    Change {
        by: "kim".to_owned(),
        at_ms,
    }
}

/// A registry with bundles of these grades. Returns their ids.
fn registry(dir: &Path, grades: &[&str]) -> (ModelRegistry, Vec<String>) {
    let registry = ModelRegistry::at(&dir.join("models"));
    let mut ids = Vec::new();
    for (number, grade) in grades.iter().enumerate() {
        let (manifest, folder) = bundle(dir, &format!("bundle-{number}"), grade);
        registry.add(&manifest, &folder).unwrap();
        ids.push(manifest.bundle_id);
    }
    (registry, ids)
}

fn champion(registry: &ModelRegistry) -> String {
    registry.champion().unwrap().manifest.bundle_id
}

#[test]
fn an_added_bundle_is_whole_and_is_found_by_id_prefix_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, ids) = registry(dir.path(), &["sound", "provisional"]);
    let copied = registry.bundle_dir(&ids[0]);
    for name in ["manifest.json", "weights-0.bpk", "report.html"] {
        assert!(copied.join(name).exists(), "{name}");
    }
    let id_of = |name: &str| registry.find(name).unwrap().manifest.bundle_id;
    assert_eq!(id_of(&ids[1]), ids[1]);
    assert_eq!(id_of(&ids[1][..6]), ids[1]);
    let text = |name: &str| registry.find(name).unwrap_err().to_string();
    assert!(
        text("champion").contains("models promote"),
        "{}",
        text("champion")
    );
    assert!(text("none").contains(&ids[0]), "{}", text("none"));
    assert!(
        text(&ids[0][..2]).contains("no model"),
        "too short to mean one"
    );
    registry.challenge(&ids[1]).unwrap();
    assert_eq!(id_of("challenger"), ids[1]);
    let listed = registry.list().unwrap();
    assert_eq!(listed.len(), 2);
    fs::write(copied.join("weights-0.bpk"), "other").unwrap();
    let error = registry.find(&ids[0]).unwrap_err().to_string();
    assert!(error.contains("weights-0.bpk was changed"), "{error}");
}

#[test]
fn roll_backs_go_back_through_promotions_that_were_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, ids) = registry(dir.path(), &["sound", "sound", "sound"]);
    let error = registry.roll_back(&by(0)).unwrap_err();
    assert!(matches!(error, ModelsError::NoChampionBefore { .. }));
    for (at_ms, id) in (1..).zip(&ids) {
        registry.promote(id, false, &by(at_ms)).unwrap();
    }
    registry.roll_back(&by(4)).unwrap();
    assert_eq!(champion(&registry), ids[1]);
    registry.promote(&ids[2], false, &by(5)).unwrap();
    registry.roll_back(&by(6)).unwrap();
    registry.roll_back(&by(7)).unwrap();
    assert_eq!(champion(&registry), ids[0]);
    assert!(registry.roll_back(&by(8)).is_err());
    let log = registry.log().unwrap();
    assert_eq!(log.len(), 7);
    let last = &log[6];
    assert_eq!((last.at_ms, last.action), (7, LogAction::RollBack));
    assert_eq!(last.before.as_ref(), Some(&ids[1]));
}

#[test]
fn a_log_that_a_crash_cut_is_read_up_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, ids) = registry(dir.path(), &["sound"]);
    registry.promote(&ids[0], false, &by(1)).unwrap();
    let path = registry.dir().join(log::FILE);
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"at\": 2, \"by")).unwrap();
    assert_eq!(registry.log().unwrap().len(), 1);
    fs::write(&path, format!("{{}}\n{whole}")).unwrap();
    let error = registry.log().unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn a_bundle_that_is_worse_than_chance_is_promoted_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, ids) = registry(dir.path(), &["worse_than_chance", "insufficient"]);
    registry.promote(&ids[1], false, &by(1)).unwrap();
    let error = registry.promote(&ids[0], false, &by(2)).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(champion(&registry), ids[1]);
    registry.challenge(&ids[0]).unwrap();
    assert!(registry.promote(&ids[0], true, &by(3)).unwrap().forced);
    assert_eq!(champion(&registry), ids[0]);
    let none = registry.find("challenger").unwrap_err();
    assert!(matches!(none, ModelsError::NoAlias { .. }), "{none}");
}

fn shipped(dir: &Path) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../leadpulse.toml");
    let mut loaded = Loaded::read(&path, &[]).unwrap();
    loaded.config.models.dir = Some(dir.join("models"));
    loaded
}

#[test]
fn what_a_worker_needs_for_a_restart_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, ids) = registry(dir.path(), &["sound", "sound", "sound"]);
    let loaded = shipped(dir.path());
    let catalog = loaded.catalog().unwrap();
    registry.promote(&ids[0], false, &by(1)).unwrap();
    let releases: Vec<String> = ids
        .iter()
        .map(|id| registry.store(&Release::of(&loaded, &catalog, id)).unwrap())
        .collect();
    let error = registry.remove(&ids[0]).unwrap_err();
    assert!(matches!(error, ModelsError::HasName { .. }), "{error}");
    let needed = InForce {
        release: Some(releases[0].clone()),
        before: Some(releases[1].clone()),
    };
    registry.note_in_force("worker/1", &needed).unwrap();
    assert_eq!(registry.in_force("worker/1").unwrap(), needed);
    let error = registry.remove(&ids[1]).unwrap_err().to_string();
    assert!(
        error.contains("worker/1") && error.contains(&releases[1]),
        "{error}"
    );
    registry.remove(&ids[2]).unwrap();
    assert!(registry.find(&ids[2]).is_err());
    let gone = registry.release(&releases[2]).unwrap_err();
    assert!(matches!(gone, ModelsError::NoSuchRelease { .. }), "{gone}");
}

#[test]
fn a_release_is_stored_under_its_digest_and_a_changed_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = shipped(dir.path());
    let registry = loaded.models().unwrap();
    let catalog = loaded.catalog().unwrap();
    let release = Release::of(&loaded, &catalog, "b1");
    let digest = registry.store(&release).unwrap();
    assert_eq!(registry.release(&digest).unwrap(), release);
    let mut trained = loaded.clone();
    trained.config.tasks[0].fit.seed += 1;
    let same = Release::of(&trained, &catalog, "b1").digest();
    assert_eq!(same, digest, "training alone reads the seed");
    let mut other = loaded.clone();
    other.config.engine.soft_budget += 1;
    let other = Release::of(&other, &catalog, "b1");
    assert!(other.digest() != digest);
    let applied = other.onto(&loaded, &catalog).unwrap();
    let budget = loaded.config.engine.soft_budget;
    assert_eq!(applied.config.engine.soft_budget, budget + 1);
    assert_eq!(applied.config.kafka, loaded.config.kafka);
    let file = registry.release_file(&digest);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"b1\"", "\"b2\"")).unwrap();
    let error = registry.release(&digest).unwrap_err().to_string();
    assert!(error.contains(&digest), "{error}");
}

#[test]
fn a_release_for_another_graph_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = shipped(dir.path());
    let catalog = loaded.catalog().unwrap();
    let mut other = loaded.clone();
    other.config.graph.board_period_ms *= 2;
    let release = Release::of(&other, &catalog, "b1");
    let error = release.onto(&loaded, &catalog).unwrap_err().to_string();
    assert!(
        error.contains("graph options") && error.contains("--anew"),
        "{error}"
    );
}

#[test]
fn the_order_of_tasks_does_not_shape_the_graph() {
    let dir = tempfile::tempdir().unwrap();
    let mut loaded = shipped(dir.path());
    let query = |days: i64, table: &str| {
        format!(
            "PREDICT COUNT(activities.*, 0, 14, days) > 0 FOR EACH contacts.contact_id \
             WHERE COUNT({table}.*, -{days}, 0, days) > 0"
        )
    };
    let mut tasks = Vec::new();
    for (number, (days, table)) in [(60, "content_views"), (30, "activities"), (9, "activities")]
        .into_iter()
        .enumerate()
    {
        let mut task = loaded.config.tasks[0].clone();
        task.name = format!("task-{number}");
        task.query = query(days, table);
        tasks.push(task);
    }
    loaded.config.tasks = tasks;
    let there = loaded.project().unwrap();
    loaded.config.tasks.reverse();
    let back = loaded.project().unwrap();
    assert_eq!(there.graph_options, back.graph_options);
    assert!(there.graph_options.day_counters.len() > 1);
    for task in &there.tasks {
        assert_eq!(task.population, back.task(&task.name).unwrap().population);
    }
}
