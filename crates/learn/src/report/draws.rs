//! Seeded chance for intervals and null distributions: the same report from the same rows.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct SeededDraws(u64);

impl SeededDraws {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number from 0, below `count`; `count` is at least 1.
    pub fn below(&mut self, count: usize) -> usize {
        // The remainder's bias is count / 2^64.
        (self.next() % count as u64) as usize
    }

    /// A number of [0, 1) that belongs to `key`: the same for equal keys of one round.
    pub fn of(round: u64, key: (u64, u64)) -> f64 {
        let bits = mixed(mixed(mixed(round) ^ key.0) ^ key.1.rotate_left(32));
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A hash of 64 bits: every bit of the input moves half of the output's.
fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
