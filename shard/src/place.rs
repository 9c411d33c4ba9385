//! Where a sample goes: a pure function of the seed and the source's own id, so that no list need be complete
//! before the first sample is placed and any worker on any machine places it alike. It leaves out the order in
//! training, which is the loader's.

/// `hash128(seed, source id)`: the first 16 bytes, big-endian, of BLAKE3 in `derive_key` mode with the context
/// `shard v1 place` over the seed (u64, little-endian) and the id's bytes.
pub fn hash128(seed: u64, source_id: &str) -> u128 {
    derive("shard v1 place", seed, source_id)
}

/// The hash that decides which samples a source without a validation split holds out. Another context than
/// [`hash128`]: the held-out samples must not all come from the same shards.
pub fn holdout_hash128(seed: u64, source_id: &str) -> u128 {
    derive("shard v1 holdout", seed, source_id)
}

fn derive(context: &str, seed: u64, source_id: &str) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&seed.to_le_bytes());
    hasher.update(source_id.as_bytes());
    let digest = hasher.finalize();
    let mut first = [0u8; 16];
    first.copy_from_slice(&digest.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// `⌊h·shards/2¹²⁸⌋`: the shard of a sample with hash `h`, below `shards`.
pub fn shard_of(h: u128, shards: u32) -> u32 {
    let shards = u128::from(shards);
    let low = (h & u128::from(u64::MAX)) * shards;
    let high = (h >> 64) * shards + (low >> 64);
    u32::try_from(high >> 64).expect("h < 2^128, so the quotient is below a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_of_the_hash_fall_into_the_first_and_last_shard() {
        for shards in [1, 2, 3, 64, 1_000, u32::MAX] {
            assert_eq!(shard_of(0, shards), 0);
            assert_eq!(shard_of(u128::MAX, shards), shards - 1);
        }
        assert_eq!(shard_of(1 << 127, 2), 1);
        assert_eq!(shard_of((1 << 127) - 1, 2), 0);
    }

    #[test]
    fn samples_spread_evenly() {
        let mut counts = [0u32; 16];
        for sample in 0..16_000 {
            counts[shard_of(hash128(7, &format!("id-{sample}")), 16) as usize] += 1;
        }
        // A binomial of mean 1,000 and deviation 31: five deviations either way.
        assert!(counts.iter().all(|&count| (845..1_155).contains(&count)), "{counts:?}");
    }

    #[test]
    fn seeds_and_purposes_are_independent() {
        assert_ne!(hash128(0, "a"), hash128(1, "a"));
        assert_ne!(hash128(0, "a"), holdout_hash128(0, "a"));
        // Fixed for ever: a changed value would move every sample of every data set.
        assert_eq!(hash128(0, "000000000009"), 148_652_802_827_946_443_413_641_976_297_049_273_185);
    }
}
