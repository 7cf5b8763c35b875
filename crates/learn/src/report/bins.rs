//! Bins of equal mass along a score: deciles, reliability, calibration error.

use super::rank::Ranking;

/// Sums of one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    /// Rows in it; a group of equal scores across an edge is split, so it may have a fraction.
    pub rows: f64,
    /// Σ of the probabilities.
    pub predicted: f64,
    /// Σ of the outcomes.
    pub observed: f64,
}

/// The places of rows in bins of equal mass, highest score first.
#[derive(Clone, Debug)]
pub(super) struct Binning {
    bins: usize,
    /// Groups of equal scores.
    groups: Vec<BinnedGroup>,
}

/// Rows of equal scores.
#[derive(Clone, Debug)]
struct BinnedGroup {
    rows: Vec<usize>,
    /// Bins, and the share of the rows in each.
    shares: Vec<(usize, f64)>,
}

impl Binning {
    /// Cuts ranked rows into at most `bins` parts of equal mass.
    pub fn new(ranking: &Ranking, bins: usize) -> Self {
        let rows: usize = ranking.groups().map(<[usize]>::len).sum();
        let bins = bins.min(rows).max(1);
        let mass = rows as f64 / bins as f64;
        let mut before = 0.0;
        let groups = ranking.groups().map(|group| {
            let (from, to) = (before, before + group.len() as f64);
            before = to;
            let first = ((from / mass) as usize).min(bins - 1);
            let last = ((to / mass).ceil() as usize).clamp(first + 1, bins);
            let shares = (first..last).map(|bin| {
                let (low, high) = (bin as f64 * mass, (bin + 1) as f64 * mass);
                let taken = (to.min(high) - from.max(low)).max(0.0);
                (bin, taken / group.len() as f64)
            });
            let shares = shares.filter(|(_, share)| *share > 0.0).collect();
            BinnedGroup {
                rows: group.to_vec(),
                shares,
            }
        });
        Self {
            groups: groups.collect(),
            bins,
        }
    }

    /// The bins' sums.
    pub fn sums(&self, probabilities: &[f64], is_positive: impl Fn(usize) -> bool) -> Vec<Bin> {
        let mut sums = vec![Bin::default(); self.bins];
        for BinnedGroup { rows, shares } in &self.groups {
            let predicted: f64 = rows.iter().map(|row| probabilities[*row]).sum();
            let observed = rows.iter().filter(|row| is_positive(**row)).count() as f64;
            for (bin, share) in shares {
                sums[*bin].rows += rows.len() as f64 * share;
                sums[*bin].predicted += predicted * share;
                sums[*bin].observed += observed * share;
            }
        }
        sums
    }
}

/// Expected calibration error: the mean over rows of |mean probability − rate| of their bin.
pub(super) fn calibration_error(bins: &[Bin]) -> f64 {
    let rows: f64 = bins.iter().map(|bin| bin.rows).sum();
    let error: f64 = bins.iter().map(|b| (b.predicted - b.observed).abs()).sum();
    if rows > 0.0 { error / rows } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use leadpulse_model::BinaryMetrics;

    use super::super::draws::SeededDraws;
    use super::*;

    #[test]
    fn fifteen_bins_give_the_calibration_error_of_a_fit() {
        let mut dice = SeededDraws::new(3);
        for rows in [1, 7, 16, 400] {
            let scores: Vec<f64> = (0..rows).map(|_| dice.below(40) as f64 / 40.0).collect();
            let outcomes: Vec<bool> = (0..rows).map(|_| dice.below(3) == 0).collect();
            let expected = BinaryMetrics::of(&scores, &outcomes).unwrap().ece;
            let bins = Binning::new(&Ranking::new(&scores), 15);
            let sums = bins.sums(&scores, |row| outcomes[row]);
            assert!((sums.iter().map(|bin| bin.rows).sum::<f64>() - rows as f64).abs() < 1e-9);
            assert!((calibration_error(&sums) - expected).abs() < 1e-9, "{rows}");
        }
    }
}
