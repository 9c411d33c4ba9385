//! Sets of byte ranges: which bytes of a file are there, which are missing. Pure arithmetic.

use std::ops::Range;

/// Byte ranges in order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<Range<u64>>);

impl Spans {
    /// Adds a range; what it overlaps or touches becomes one with it.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|span| span.end < range.start);
        let to = self.0.partition_point(|span| span.start <= range.end);
        let start = self.0.get(from).map_or(range.start, |span| span.start.min(range.start));
        let end = self.0[..to].last().map_or(range.end, |span| span.end.max(range.end));
        self.0.splice(from..to, std::iter::once(start..end));
    }

    /// The first range below `total` that is missing, at most `longest` bytes of it.
    pub(super) fn first_gap(&self, total: u64, longest: u64) -> Option<Range<u64>> {
        let mut start = 0;
        let mut end = total;
        for span in &self.0 {
            if span.start > start {
                end = span.start;
                break;
            }
            start = span.end;
        }
        let end = end.min(start.saturating_add(longest)).min(total);
        (start < end).then_some(start..end)
    }

    /// Bytes in all ranges.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|span| span.end - span.start).sum()
    }

    /// The ranges as pairs, for a file.
    pub(super) fn pairs(&self) -> Vec<[u64; 2]> {
        self.0.iter().map(|span| [span.start, span.end]).collect()
    }

    /// The set of pairs from a file; none where one is no range below `total`.
    pub(super) fn from_pairs(pairs: &[[u64; 2]], total: u64) -> Option<Self> {
        let mut spans = Self::default();
        for &[start, end] in pairs {
            if start >= end || end > total {
                return None;
            }
            spans.insert(start..end);
        }
        Some(spans)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plainest model: one flag a byte.
        #[test]
        fn ranges_behave_like_a_set_of_bytes(
            steps in proptest::collection::vec((0u64..64, 0u64..16), 0..24),
            longest in 1u64..20,
        ) {
            let (mut spans, mut flags) = (Spans::default(), [false; 80]);
            for (start, length) in steps {
                let range = start..start + length;
                flags[start as usize..(start + length) as usize].fill(true);
                spans.insert(range);
                prop_assert_eq!(spans.bytes(), flags.iter().filter(|there| **there).count() as u64);
                for pair in spans.0.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start, "{:?}", spans);
                }
            }
            let start = flags.iter().position(|there| !there).unwrap() as u64;
            let rest = &flags[start as usize..];
            let length = rest.iter().position(|there| *there).unwrap_or(rest.len()) as u64;
            prop_assert_eq!(spans.first_gap(80, longest), Some(start..start + length.min(longest)));
            prop_assert_eq!(Spans::from_pairs(&spans.pairs(), 80), Some(spans));
        }
    }

    #[test]
    fn a_whole_file_has_no_gap_and_odd_pairs_are_refused() {
        let mut spans = Spans::default();
        assert_eq!(spans.first_gap(0, 5), None);
        spans.insert(0..10);
        assert_eq!(spans.first_gap(10, 5), None);
        for bad in [[[3, 3]], [[5, 4]], [[0, 11]]] {
            assert_eq!(Spans::from_pairs(&bad, 10), None);
        }
    }
}
