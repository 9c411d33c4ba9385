//! A training batch of a captioner: what the tower saw, the captions' tokens, and which of them are learned.
//!
//! Behind token t of a caption comes token t + 1, and behind the last its end marker. Padding is never learned, nor is
//! the end of a caption that was cut, nor anything of an empty one. Leaves out where pictures come from.

use crate::error::{Error, Result};
use crate::ops::Target;
use crate::tokenizer::{Encoded, Tokenizer};
use candle_core::{Device, Tensor};

/// One batch on the device.
#[derive(Clone, Debug)]
pub struct CaptionBatch {
    /// f32, (B, rows, numbers): what the tower gave.
    pub features: Tensor,
    /// f32, (B, E): the captions' embeddings by the tower's text side, where a network is told them.
    pub text: Option<Tensor>,
    /// u32, (B, T): the beginning marker and the captions' tokens, cut behind the longest.
    pub input_ids: Tensor,
    /// What is learned: row b·T + t of `input_ids` predicts a token.
    pub targets: Vec<Target>,
    /// The id that ends a caption.
    pub end: u32,
    /// What is dropped out of the batch is drawn from it.
    pub seed: u64,
}

impl CaptionBatch {
    /// Puts captions beside the features of their pictures.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] and [`Error::Tensor`].
    pub fn new<S: AsRef<str>>(
        features: Tensor,
        captions: &[S],
        tokenizer: &Tokenizer,
        context_length: usize,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let Encoded { input_ids, eot_positions, is_cut, length } =
            tokenizer.encode(captions, context_length)?;
        let longest = eot_positions.iter().max().map_or(1, |end| (*end as usize).max(1));
        let mut targets = Vec::new();
        for (caption, ((ids, end), is_cut)) in
            input_ids.chunks_exact(length).zip(&eot_positions).zip(&is_cut).enumerate()
        {
            let end = *end as usize;
            if end == 1 {
                continue;
            }
            let learned = if *is_cut { end - 1 } else { end };
            let row = |place: usize| (caption * longest + place) as u32;
            targets.extend((0..learned).map(|place| Target { row: row(place), class: ids[place + 1] }));
        }
        let inputs: Vec<u32> =
            input_ids.chunks_exact(length).flat_map(|row| &row[..longest]).copied().collect();
        let input_ids = Tensor::from_vec(inputs, (captions.len(), longest), device)
            .map_err(Error::tensor("bring a batch's captions to the device"))?;
        Ok(Self { features, text: None, input_ids, targets, end: tokenizer.markers().1, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    #[test]
    fn every_token_and_end_is_learned_and_nothing_else() {
        let tokenizer = Tokenizer::train(["a red star", "two blue squares"], 300).unwrap();
        let captions = ["a red star", "", "a red star a red star a red star a red star", "a"];
        let features = Tensor::zeros((4, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let of = |length| {
            CaptionBatch::new(features.clone(), &captions, &tokenizer, length, &Device::Cpu, 0).unwrap()
        };
        let batch = of(12);
        let ids = batch.input_ids.to_vec2::<u32>().unwrap();
        let (start, end) = tokenizer.markers();
        let width = ids[0].len();
        assert_eq!(width, 11, "the long caption fills the context but for its end");
        for (row, ids) in ids.iter().enumerate() {
            assert_eq!(ids[0], start);
            let learned: Vec<(usize, u32)> = batch
                .targets
                .iter()
                .filter(|t| t.row as usize / width == row)
                .map(|t| (t.row as usize % width, t.class))
                .collect();
            // Each prediction is the next input, but for an end.
            for (place, class) in &learned {
                assert!(*class == end || ids[place + 1] == *class);
            }
            let ends = learned.iter().filter(|(_, class)| *class == end).count();
            assert_eq!(ends, usize::from(row == 0 || row == 3), "row {row}");
            assert_eq!(learned.is_empty(), row == 1);
        }
        // Only empty captions: nothing to learn, one column of beginnings.
        let none =
            CaptionBatch::new(features.narrow(0, 0, 1).unwrap(), &[""], &tokenizer, 12, &Device::Cpu, 0)
                .unwrap();
        assert_eq!((none.targets.len(), none.input_ids.dims()), (0, [1, 1].as_slice()));
    }
}
