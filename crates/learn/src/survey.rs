//! One pass over the files: vocabularies, extent, lateness, and when entities became known.

use rustc_hash::FxHashMap;

use leadpulse_features::{FeatureSpec, VocabularyBuilder};
use leadpulse_graph::StateLayout;
use leadpulse_history::Files;
use leadpulse_project::Project;
use leadpulse_schema::{Role, RowBatch, TableId};

use crate::LearnError;
use crate::coverage::Coverage;
use crate::lateness::Lateness;
use crate::walk::BATCH_ROWS;

/// Start, end and number of rows of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Known time of the first event, milliseconds; without events, of the first version with a
    /// time.
    pub first_ms: i64,
    /// Known time of the last row, milliseconds.
    pub last_ms: i64,
    /// The number of rows of all tables.
    pub rows: u64,
}

/// The findings of one pass over the files.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Vocabularies of the rows known by the given moment.
    pub spec: FeatureSpec,
    /// The extent of the whole.
    pub extent: Extent,
    /// Per table, whether any key has versions that became known at different moments.
    pub changing: Vec<bool>,
    /// The lateness of the rows known by the given moment.
    pub lateness: Lateness,
    /// Per table, the moments at which its keys became known, milliseconds, ascending; none for
    /// events.
    pub first_known_ms: Vec<Vec<i64>>,
    /// The days with rows of each table, of the whole.
    pub coverage: Coverage,
}

/// One pass over the files.
pub fn survey(
    project: &Project,
    files: &Files,
    until_ms: Option<i64>,
) -> Result<Survey, LearnError> {
    let state = StateLayout::new(project.catalog.clone(), &project.graph_options);
    let mut vocabulary = VocabularyBuilder::default();
    let mut replay = files.replay_learned()?;
    let mut batch = RowBatch::new();
    let mut lateness = Lateness::default();
    let mut coverage = Coverage::default();
    let mut extent = Extent {
        first_ms: i64::MAX,
        last_ms: i64::MIN,
        rows: 0,
    };
    let mut first_version_ms = i64::MAX;
    let mut changing = vec![false; project.catalog.tables.len()];
    let mut first_known_ms = vec![Vec::new(); project.catalog.tables.len()];
    // When the keys of entities were known.
    let mut known: FxHashMap<(TableId, Box<str>), i64> = FxHashMap::default();
    while replay.read(i64::MAX, BATCH_ROWS, &mut batch)? > 0 {
        for row in batch.iter() {
            if until_ms.is_none_or(|until| row.known_ms() <= until) {
                vocabulary.observe(&state, row);
                lateness.observe(row);
            }
            coverage.observe(row);
            let table = project.catalog.table_at(row.table());
            if table.role == Role::Event {
                extent.first_ms = extent.first_ms.min(row.known_ms());
            } else if table.time.is_some() || row.has_own_known_time() {
                first_version_ms = first_version_ms.min(row.known_ms());
            }
            if table.role != Role::Event {
                let index = row.table().index();
                let first_ms = *known
                    .entry((row.table(), row.key().into()))
                    .or_insert_with(|| {
                        first_known_ms[index].push(row.known_ms());
                        row.known_ms()
                    });
                changing[index] |= row.known_ms() > first_ms;
            }
            extent.last_ms = extent.last_ms.max(row.known_ms());
            extent.rows += 1;
        }
        batch.clear();
    }
    if extent.first_ms == i64::MAX {
        extent.first_ms = first_version_ms;
    }
    if extent.rows == 0 || extent.first_ms == i64::MAX {
        return Err(LearnError::NoTimes);
    }
    Ok(Survey {
        spec: vocabulary.finish(&state),
        extent,
        changing,
        lateness,
        first_known_ms,
        coverage,
    })
}
