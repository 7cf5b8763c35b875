//! The part of the process's memory that nodes of cells may have.
//!
//! What else the process needs is measured at a start, when no nodes are in memory, and grows with
//! the entities that come after. What a byte of nodes costs in the end is measured while more of
//! them are in memory than ever before: memory that was freed and not given back to the system would
//! distort it later.

use std::time::{Duration, Instant};

use leadpulse_engine::ports::StoreError;

/// Least memory for nodes: cells of a few epochs.
const LEAST: usize = 32 << 20;
/// Memory of an entity without its node: key, place, deadline, matching, fingerprints, and the score
/// of an account shared by its people. Measured on the simulated market.
const OF_AN_ENTITY: usize = 1_500;
/// The process is measured this often.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Bounds of what a byte of nodes may cost.
const COST: (f64, f64) = (1.0, 2.5);

/// The memory of the process, and its limit.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// Bytes that the process may use; `None` without a limit.
    limit: Option<usize>,
    /// Bytes without nodes, and the entities at that moment.
    base: Option<(usize, usize)>,
    /// Most bytes of nodes so far.
    most: usize,
    cost: f64,
    measured: Option<Instant>,
}

impl MemoryBudget {
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            base: None,
            most: 0,
            cost: 1.2,
            measured: None,
        }
    }

    /// Most bytes of nodes to be in memory.
    pub fn of_nodes(&mut self, nodes: usize, entities: usize) -> usize {
        let Some(limit) = self.limit else {
            return usize::MAX;
        };
        let is_due = self.measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY);
        if is_due && let Some(resident) = resident_bytes() {
            self.measured = Some(Instant::now());
            self.measure(resident, nodes, entities);
        }
        let other = self.other(entities);
        ((limit.saturating_sub(other) as f64 / self.cost) as usize).max(LEAST)
    }

    fn measure(&mut self, resident: usize, nodes: usize, entities: usize) {
        if self.base.is_none() {
            self.base = Some((resident.saturating_sub(nodes), entities));
        }
        if nodes > self.most.max(LEAST) {
            self.most = nodes;
            let of_nodes = resident.saturating_sub(self.other(entities));
            self.cost = (of_nodes as f64 / nodes as f64).clamp(COST.0, COST.1);
        }
    }

    /// Bytes without nodes.
    fn other(&self, entities: usize) -> usize {
        let (base, then) = self.base.unwrap_or_default();
        base + entities.saturating_sub(then) * OF_AN_ENTITY
    }

    /// Checks that there is room for nodes, while there are none in memory.
    pub fn check(&mut self, entities: usize) -> Result<(), StoreError> {
        let (Some(limit), Some(resident)) = (self.limit, resident_bytes()) else {
            return Ok(());
        };
        self.base = Some((resident, entities));
        let least = resident + LEAST * 2;
        match limit >= least {
            true => Ok(()),
            false => Err(StoreError::Memory {
                budget: limit,
                needed: resident,
                least: least.next_multiple_of(1 << 20),
                entities,
            }),
        }
    }
}

/// Bytes of the process in memory; `None` where the system does not tell.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn nodes_get_what_the_rest_of_the_process_leaves() {
        let mut budget = MemoryBudget::new(Some(1_000 * MIB));
        budget.measured = Some(Instant::now());
        budget.measure(400 * MIB, 0, 0);
        assert_eq!(budget.of_nodes(0, 0), (600.0 * MIB as f64 / 1.2) as usize);
        // A byte of nodes turns out to cost two.
        budget.measure(600 * MIB, 100 * MIB, 0);
        assert_eq!(budget.of_nodes(0, 0), 300 * MIB);
        // Nodes that were put out leave memory that the system does not get back: no change.
        budget.measure(600 * MIB, 50 * MIB, 0);
        assert_eq!(budget.of_nodes(0, 0), 300 * MIB);
        // New entities take their part.
        let grown = 100 * MIB / OF_AN_ENTITY;
        assert!(budget.of_nodes(0, grown).abs_diff(250 * MIB) < MIB);
        assert_eq!(budget.of_nodes(0, usize::MAX / OF_AN_ENTITY / 2), LEAST);
        assert_eq!(MemoryBudget::new(None).of_nodes(1, 1), usize::MAX);
    }

    #[test]
    fn a_state_that_cannot_fit_is_refused_with_figures() {
        let mut budget = MemoryBudget::new(Some(MIB));
        let refused = budget.check(12).unwrap_err().to_string();
        assert!(
            refused.contains("store.memory_budget is 1 MiB, and 12 entities take"),
            "{refused}"
        );
        assert!(MemoryBudget::new(Some(1 << 40)).check(12).is_ok());
    }
}
