//! Repeatable randomness: the same seed draws the same.

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that draws what `seed` says.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end.saturating_sub(1))
    }

    /// The time to the next of independent events that come once per unit of time.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// Ranks drawn by Zipf's law: the one at place k in proportion to 1 / (k + 1)^exponent.
pub struct Zipf {
    /// For each rank the share of it and all before it.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Draws from `count` ranks.
    #[must_use]
    pub fn new(count: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=count.max(1))
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|share| *share /= sum);
        Zipf { cumulative }
    }

    /// A rank, from 0.
    pub fn rank(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.cumulative.partition_point(|share| *share <= at).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_evenly() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..10_000).map(|_| random.unit()).collect::<Vec<f64>>()
        };
        assert!(draw(3) == draw(3) && draw(3) != draw(4));
        let mean = draw(3).iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    #[test]
    fn zipf_prefers_the_first() {
        let (zipf, mut random) = (Zipf::new(1000, 1.0), Random::new(1));
        let mut counts = vec![0_u32; 1000];
        (0..100_000).for_each(|_| counts[zipf.rank(&mut random)] += 1);
        // The first has a share of 1 / H(1000), about 13 %, and twice that of the second.
        assert!((12_500..14_500).contains(&counts[0]), "{}", counts[0]);
        assert!((6_000..7_500).contains(&counts[1]), "{}", counts[1]);
        assert!(counts.iter().sum::<u32>() == 100_000);
    }
}
