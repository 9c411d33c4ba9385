//! Hashed draws: each value of a scene is a hash of (seed, split, scene, field), never the next
//! number of a running generator, so that a field that is added later changes no other.
//!
//! Only integer arithmetic and one exact conversion to f32, so that all machines draw alike.

/// What a draw decides. The numbers are part of the generator: they are never reused or reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Field {
    Shape = 1,
    Colour = 2,
    Texture = 3,
    Size = 4,
    Count = 5,
    Place = 6,
    OffsetX = 7,
    OffsetY = 8,
    Radius = 9,
    Turn = 10,
    ToneRed = 11,
    ToneGreen = 12,
    ToneBlue = 13,
    TextureAngle = 14,
    TexturePhase = 15,
    TexturePeriod = 16,
    BackgroundColour = 17,
    BackgroundKind = 18,
    BackgroundAngle = 19,
    BackgroundPhase = 20,
    BackgroundPeriod = 21,
    BackgroundStrength = 22,
    Light = 23,
    LightAngle = 24,
    NoiseSeed = 25,
    NoiseStrength = 26,
    Nested = 27,
    CaptionForm = 28,
    CaptionDetail = 29,
    CaptionOrder = 30,
    CaptionWord = 31,
    CaptionSecond = 32,
    Tone = 33,
}

/// The draws of one scene.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    key: u64,
}

impl Draws {
    /// The draws of scene `number` of a split.
    pub(super) fn new(seed: u64, split: u64, number: u64) -> Self {
        // Chained, not added: no two different triples share their draws by arithmetic.
        Self { key: mix(mix(mix(seed ^ 0x7368_6170_6573_2d31).wrapping_add(split)).wrapping_add(number)) }
    }

    /// 64 hashed bits for a field of part `part` (an object, a caption, an attempt).
    pub(super) fn bits(&self, field: Field, part: u64) -> u64 {
        mix(mix(self.key.wrapping_add(field as u64)).wrapping_add(part))
    }

    /// A whole number below `count` (0 for a count of 0), by multiplication: its bias is below 2⁻³².
    pub(super) fn below(&self, field: Field, part: u64, count: usize) -> usize {
        ((u128::from(self.bits(field, part)) * count as u128) >> 64) as usize
    }

    /// One of a list.
    pub(super) fn pick<T: Copy>(&self, field: Field, part: u64, list: &[T]) -> Option<T> {
        list.get(self.below(field, part, list.len())).copied()
    }

    /// A number in 0..1, a multiple of 2⁻²⁴.
    pub(super) fn unit(&self, field: Field, part: u64) -> f32 {
        (self.bits(field, part) >> 40) as f32 / 16_777_216.0
    }

    /// A number in `low`..`high`.
    pub(super) fn between(&self, field: Field, part: u64, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit(field, part)
    }
}

/// SplitMix64's step and finaliser (Steele, Lea, Flood 2014): a bijection with full avalanche.
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The first outputs of the reference implementation with state 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn seed_split_and_number_do_not_alias() {
        let mut keys: Vec<u64> = (0..8)
            .flat_map(|seed| {
                (0..2).flat_map(move |split| (0..8).map(move |n| Draws::new(seed, split, n).key))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 8 * 2 * 8);
    }

    #[test]
    fn draws_below_are_even() {
        let mut counts = [0_u32; 10];
        for number in 0..20_000 {
            counts[Draws::new(1, 0, number).below(Field::Colour, 0, 10)] += 1;
        }
        // 2,000 expected, standard deviation 42.
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
        assert_eq!(Draws::new(1, 0, 0).below(Field::Colour, 0, 0), 0);
    }
}
