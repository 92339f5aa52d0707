//! The buckets of all histograms: four to each doubling, so that a quantile read from them is at
//! most a fifth too large, from 16 µs (below, the clock says more about itself than about a
//! request) to 134 s.

/// Inclusive upper bounds in microseconds; what is longer falls into one more bucket.
pub const BOUNDS_US: [u64; BOUNDS] = bounds();

/// The bucket of a duration: an index into [`BOUNDS_US`], or its length for what is longer.
///
/// Constant time: the highest bit gives the doubling, the two bits below it the quarter.
#[inline]
pub fn bucket(us: u64) -> usize {
    if us <= 1 << FIRST_EXPONENT {
        return 0;
    }
    // Bounds are inclusive, and one less makes the arithmetic exclusive.
    let below = us - 1;
    let exponent = below.ilog2();
    let quarter = (below >> (exponent - 2)) & 3;
    let index = 1 + (exponent - FIRST_EXPONENT) as usize * 4 + quarter as usize;
    index.min(BOUNDS)
}

const fn bounds() -> [u64; BOUNDS] {
    let mut bounds = [1 << FIRST_EXPONENT; BOUNDS];
    let mut index = 1;
    while index < BOUNDS {
        let start = 1 << (FIRST_EXPONENT as usize + (index - 1) / 4);
        bounds[index] = start + start / 4 * ((index as u64 - 1) % 4 + 1);
        index += 1;
    }
    bounds
}

const FIRST_EXPONENT: u32 = 4;
const LAST_EXPONENT: u32 = 27;
const BOUNDS: usize = 1 + 4 * (LAST_EXPONENT - FIRST_EXPONENT) as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_grow_by_quarters_of_a_doubling() {
        assert_eq!(BOUNDS_US[..10], [16, 20, 24, 28, 32, 40, 48, 56, 64, 80]);
        assert_eq!(BOUNDS_US.last(), Some(&(1 << 27)));
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    proptest! {
        #[test]
        fn the_bucket_is_that_of_a_search(bits in 0u32..64, noise: u64) {
            for us in [noise >> bits, BOUNDS_US[bits as usize], BOUNDS_US[bits as usize] + 1, u64::MAX] {
                prop_assert_eq!(bucket(us), BOUNDS_US.partition_point(|bound| *bound < us), "{}", us);
            }
        }
    }
}
