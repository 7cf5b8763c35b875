//! Quality of a ranking under weights: rows sorted once, so that hundreds of resamples of the same
//! rows cost one pass each.

/// Rows in the order of a score, with groups of equal scores.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// Indices of rows, highest score first.
    order: Vec<usize>,
    /// Ends of the groups of equal scores, as places in `order`.
    ends: Vec<usize>,
}

impl Ranking {
    /// Sorts rows by their score; equal scores are one group.
    pub fn new(scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let ends = (1..=order.len())
            .filter(|end| *end == order.len() || scores[order[*end]] != scores[order[*end - 1]])
            .collect();
        Self { order, ends }
    }

    /// The rows of each group of equal scores, highest first.
    pub fn groups(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.order[start..*end])
    }

    /// Weighted rows and weighted positives of each group.
    fn masses<'a>(
        &'a self,
        outcomes: &'a [bool],
        weight: impl Fn(usize) -> f64 + 'a,
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        self.groups().map(move |rows| {
            rows.iter().fold((0.0, 0.0), |(all, positive), row| {
                let mass = weight(*row);
                (all + mass, positive + mass * f64::from(outcomes[*row]))
            })
        })
    }

    /// The probability that a positive row stands above a negative one, a tie counting half;
    /// `None` with one kind of outcome only.
    pub fn auroc(&self, outcomes: &[bool], weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut above, mut negatives, mut won) = (0.0, 0.0, 0.0);
        for (all, positive) in self.masses(outcomes, weight) {
            won += (all - positive) * (above + positive / 2.0);
            above += positive;
            negatives += all - positive;
        }
        (above > 0.0 && negatives > 0.0).then(|| won / (above * negatives))
    }

    /// Σ over scores of the recall gained there × the precision down to there; `None` without
    /// positives.
    pub fn average_precision(
        &self,
        outcomes: &[bool],
        weight: impl Fn(usize) -> f64,
    ) -> Option<f64> {
        let (mut rows, mut positives, mut sum) = (0.0, 0.0, 0.0);
        for (all, positive) in self.masses(outcomes, weight) {
            rows += all;
            positives += positive;
            if rows > 0.0 {
                sum += positive * positives / rows;
            }
        }
        (positives > 0.0).then(|| sum / positives)
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_model::BinaryMetrics;

    use super::super::draws::SeededDraws;
    use super::*;

    #[test]
    fn equal_weights_give_the_metrics_of_a_fit() {
        let mut dice = SeededDraws::new(7);
        for rows in [3, 20, 300] {
            let scores: Vec<f64> = (0..rows).map(|_| dice.below(10) as f64 / 10.0).collect();
            let outcomes: Vec<bool> = scores
                .iter()
                .map(|s| dice.below(10) as f64 / 9.0 < *s)
                .collect();
            let expected = BinaryMetrics::of(&scores, &outcomes).unwrap();
            let ranking = Ranking::new(&scores);
            let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            assert!(close(ranking.auroc(&outcomes, |_| 1.0), expected.auroc));
            let precision = ranking.average_precision(&outcomes, |_| 1.0);
            assert!(close(precision, expected.average_precision));
        }
    }

    #[test]
    fn a_weight_of_two_is_a_row_twice() {
        let (scores, outcomes) = ([0.9, 0.4, 0.4, 0.1], [true, false, true, false]);
        let twice = Ranking::new(&[0.9, 0.4, 0.4, 0.1, 0.4, 0.1]);
        let outcomes_twice = [true, false, true, false, true, false];
        let weights = [1.0, 1.0, 2.0, 2.0];
        let once = Ranking::new(&scores);
        let weight = |row: usize| weights[row];
        assert_eq!(
            once.auroc(&outcomes, weight),
            twice.auroc(&outcomes_twice, |_| 1.0)
        );
        assert_eq!(
            once.average_precision(&outcomes, weight),
            twice.average_precision(&outcomes_twice, |_| 1.0)
        );
    }
}
