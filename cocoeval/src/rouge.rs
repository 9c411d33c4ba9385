//! ROUGE-L as pycocoevalcap computes it.
//!
//! Lin and Hovy's measure on the longest common subsequence (Lin, "ROUGE: A Package for Automatic Evaluation of
//! Summaries", 2004): `(1 + β²)·P·R / (R + β²·P)` with β = 1.2, where the precision `P` and the recall `R` are each the
//! greatest over the references, not of one of them. Left out: the other measures of the ROUGE family.

use crate::vocabulary::WordId;

/// Weight of recall against precision.
const BETA: f64 = 1.2;

/// Two rows of the table of lengths, kept between captions.
#[derive(Debug, Default)]
pub(crate) struct Rouge {
    row: Vec<u32>,
}

impl Rouge {
    /// ROUGE-L of a hypothesis against its references, from 0 to 1; 0 without references.
    pub(crate) fn score<'a>(
        &mut self,
        hypothesis: &[WordId],
        references: impl IntoIterator<Item = &'a [WordId]>,
    ) -> f64 {
        let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
        for reference in references {
            let common = f64::from(self.common(hypothesis, reference));
            precision = precision.max(common / hypothesis.len().max(1) as f64);
            recall = recall.max(common / reference.len().max(1) as f64);
        }
        if precision == 0.0 || recall == 0.0 {
            return 0.0;
        }
        (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
    }

    /// Length of the longest common subsequence.
    fn common(&mut self, left: &[WordId], right: &[WordId]) -> u32 {
        self.row.clear();
        self.row.resize(right.len() + 1, 0);
        for word in left {
            let mut diagonal = 0; // the row above, one place to the left
            for (place, other) in right.iter().enumerate() {
                let above = self.row[place + 1];
                self.row[place + 1] = if word == other { diagonal + 1 } else { above.max(self.row[place]) };
                diagonal = above;
            }
        }
        self.row[right.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_subsequence() {
        let mut rouge = Rouge::default();
        assert_eq!(rouge.common(&[1, 2, 3, 4], &[2, 9, 4, 1]), 2);
        assert_eq!(rouge.common(&[], &[1]), 0);
        assert_eq!(rouge.common(&[1, 1, 2], &[1, 2, 1, 2]), 3);
    }

    #[test]
    fn precision_and_recall_may_come_from_two_references() {
        let score = Rouge::default().score(&[1, 2], [&[1, 2, 3, 4][..], &[1][..]]);
        assert!((score - 1.0).abs() < 1e-15, "{score}");
        assert_eq!(Rouge::default().score(&[1], [&[2][..]]), 0.0);
    }
}
