//! Random numbers of one sample in one epoch: hash(seed, epoch, sample), the same on any thread and rank.
//!
//! Left out: the order of samples, which is a permutation and no stream ([`crate::order`]).

const DOMAIN: &str = "loader v1 sample stream";

/// What a stream is for: streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Which caption is drawn.
    Caption = 0,
    /// Which part of a picture is taken.
    Crop = 1,
    /// Whether a picture is mirrored.
    Flip = 2,
    /// How a picture's colours are changed.
    Jitter = 3,
    /// Whether a picture loses its colours.
    Grayscale = 5,
    /// Which sample takes a damaged one's place.
    Substitute = 4,
    /// Which sample leaves the buffer of the order `shard-buffer`.
    Buffer = 16,
}

/// The streams of one epoch; making one per sample costs a single BLAKE3 compression.
#[derive(Clone, Debug)]
pub struct EpochStreams {
    key: [u8; blake3::KEY_LEN],
}

impl EpochStreams {
    /// The streams that belong to (seed, epoch), hashed together.
    pub fn new(seed: u64, epoch: u64) -> EpochStreams {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes());
        EpochStreams { key: *hasher.finalize().as_bytes() }
    }

    /// The stream of a sample, counted within its split.
    pub fn stream(&self, sample: u64, purpose: Purpose) -> Stream {
        let mut message = [0; 9];
        message[..8].copy_from_slice(&sample.to_le_bytes());
        message[8] = purpose as u8;
        let hash = blake3::keyed_hash(&self.key, &message);
        let (words, _) = hash.as_bytes().as_chunks::<8>();
        Stream { state: std::array::from_fn(|i| u64::from_le_bytes(words[i])) }
    }
}

/// A stream of random numbers: xoshiro256++ (Blackman and Vigna, 2019) started from a 256-bit hash.
#[derive(Clone, Debug)]
pub struct Stream {
    state: [u64; 4],
}

impl Stream {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; zero where `bound` is zero. Scaling leaves a bias below bound / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in 0..1, one of 2^53 evenly spaced ones.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `low` on and below `high`; `low` where they are equal.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, epoch: u64, sample: u64) -> u64 {
        EpochStreams::new(seed, epoch).stream(sample, Purpose::Caption).next_u64()
    }

    #[test]
    fn seed_epoch_and_sample_are_hashed_not_added() {
        let firsts = [(5, 1, 0), (6, 0, 0), (5, 0, 1), (0, 5, 1), (0, 6, 0), (1, 5, 0)];
        let mut values: Vec<u64> = firsts.map(|(s, e, i)| first(s, e, i)).into();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), firsts.len());
        assert_eq!(first(5, 1, 7), first(5, 1, 7));
    }

    #[test]
    fn draws_are_even_over_samples_and_over_epochs() {
        for by_epoch in [false, true] {
            let mut counts = [0u32; 5];
            for i in 0..50_000 {
                let (epoch, sample) = if by_epoch { (i, 3) } else { (3, i) };
                let mut stream = EpochStreams::new(1, epoch).stream(sample, Purpose::Caption);
                counts[stream.below(5) as usize] += 1;
            }
            // Standard deviation of each count: 89.
            assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 450), "{counts:?}");
        }
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut stream = EpochStreams::new(0, 0).stream(0, Purpose::Caption);
        assert!((0..1000).all(|_| stream.below(3) < 3));
        assert_eq!((stream.below(0), stream.below(1)), (0, 0));
        assert!((0..1000).map(|_| stream.unit()).all(|unit| (0.0..1.0).contains(&unit)));
        assert!((0..1000).map(|_| stream.uniform(-2.0, 3.0)).all(|number| (-2.0..3.0).contains(&number)));
        assert_eq!(stream.uniform(0.7, 0.7), 0.7);
    }

    #[test]
    fn streams_of_different_purposes_differ() {
        let streams = EpochStreams::new(1, 2);
        let purposes = [Purpose::Caption, Purpose::Crop, Purpose::Flip, Purpose::Jitter];
        let firsts = purposes.map(|purpose| streams.stream(3, purpose).next_u64());
        assert!((0..4).all(|a| (0..a).all(|b| firsts[a] != firsts[b])));
        // The captions of earlier versions' runs.
        assert_eq!(Purpose::Caption as u8, 0);
    }
}
