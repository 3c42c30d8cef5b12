//! How long attempts took, in classes whose bounds grow by the square root of two: a percentile is within a fifth of
//! what it really was, from a millisecond to most of a minute.

/// Where classes end, in milliseconds, and the next one begins: √2, 2, 2√2 and so on, rounded.
pub const BOUNDS: [u32; CLASSES - 1] = [
    1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1_024, 1_448, 2_048, 2_896,
    4_096, 5_793, 8_192, 11_585, 16_384, 23_170, 32_768, 46_341,
];

/// How many classes there are.
pub const CLASSES: usize = 32;

/// Where the last class is taken to end: a destination has a minute at most to answer.
const END: f64 = 65_536.0;

/// How many took how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram([i64; CLASSES]);

impl Histogram {
    /// Of counts by class, as they are stored; `None` unless there is one for each class.
    pub fn from_counts(counts: &[i64]) -> Option<Self> {
        counts.try_into().ok().map(Self)
    }

    /// By class.
    pub fn counts(&self) -> &[i64] {
        &self.0
    }

    /// One more, of so many milliseconds.
    pub fn record(&mut self, milliseconds: u32) {
        self.0[BOUNDS.partition_point(|bound| *bound <= milliseconds)] += 1;
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// How many there are.
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// What the share `part` (0 to 1) of them did not exceed, in milliseconds; `None` when there are none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts are far below 2^52, and the answer is an estimate"
    )]
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let total = self.total();
        if total <= 0 {
            return None;
        }
        let wanted = (part.clamp(0.0, 1.0) * total as f64).max(1.0);
        let mut below = 0_i64;
        for (class, count) in self.0.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= wanted {
                let (low, high) = bounds(class);
                return Some(low + (high - low) * ((wanted - below as f64) / *count as f64));
            }
            below += count;
        }
        None
    }
}

/// Where a class begins and ends.
fn bounds(class: usize) -> (f64, f64) {
    let bound = |index: usize| BOUNDS.get(index).map_or(END, |bound| f64::from(*bound));
    (class.checked_sub(1).map_or(0.0, bound), bound(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: impl IntoIterator<Item = u32>) -> Histogram {
        let mut histogram = Histogram::default();
        all.into_iter().for_each(|one| histogram.record(one));
        histogram
    }

    #[test]
    fn bounds_grow_by_the_square_root_of_two() {
        for (index, pair) in BOUNDS.windows(2).enumerate().skip(5) {
            let ratio = f64::from(pair[1]) / f64::from(pair[0]);
            assert!((ratio - std::f64::consts::SQRT_2).abs() < 0.06, "{index}: {ratio}");
        }
        assert!(BOUNDS.is_sorted_by(|low, high| low < high));
    }

    #[test]
    fn each_length_falls_into_the_class_that_has_it() {
        for length in (0..70_000).chain([u32::MAX]) {
            let histogram = of([length]);
            let class = histogram.counts().iter().position(|count| *count == 1).unwrap();
            let (low, high) = bounds(class);
            assert!(
                f64::from(length) >= low && (f64::from(length) < high || class == CLASSES - 1),
                "{length}"
            );
        }
    }

    #[test]
    fn a_percentile_is_near_the_true_one() {
        let lengths: Vec<u32> = (1..=10_000).map(|n| (n * n) / 5_000 + 5).collect();
        let histogram = of(lengths.iter().copied());
        for part in [0.01, 0.5, 0.9, 0.95, 0.99, 1.0] {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let real = f64::from(lengths[((part * 10_000.0) as usize).max(1) - 1]);
            let told = histogram.percentile(part).unwrap();
            assert!((told - real).abs() / real < 0.2, "{part}: {told} of {real}");
        }
    }

    #[test]
    fn the_ends_are_told_and_nothing_is_not() {
        assert_eq!(Histogram::default().percentile(0.5), None);
        assert_eq!(of([0]).percentile(0.5), Some(1.0));
        assert_eq!(of([u32::MAX]).percentile(0.99), Some(END));
        assert_eq!(of([10]).percentile(-1.0), of([10]).percentile(0.0));
    }

    #[test]
    fn merging_adds() {
        let (mut one, other) = (of([1, 5, 5]), of([5, 70_000]));
        one.merge(&other);
        assert_eq!(one, of([1, 5, 5, 5, 70_000]));
        assert_eq!(one.total(), 5);
        assert_eq!(Histogram::from_counts(one.counts()), Some(one));
        assert_eq!(Histogram::from_counts(&[1]), None);
    }
}
