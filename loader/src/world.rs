//! Who else reads the same epoch: [`World`]. Given by the caller; no environment variable is read here.

use crate::error::{Error, Result};

/// The place of this process among those that share an epoch.
///
/// `rank` counts from zero and is below `world_size`. Each global batch is cut into `world_size` equal, contiguous
/// parts; the process of rank r delivers part r, so that the parts side by side are the batch of a single process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    rank: u32,
    world_size: u32,
}

impl World {
    /// A process alone.
    pub const SINGLE: World = World { rank: 0, world_size: 1 };

    /// The place `rank` of `world_size`.
    ///
    /// # Errors
    /// [`Error::Config`] unless `rank < world_size`.
    pub fn new(rank: u32, world_size: u32) -> Result<World> {
        if rank >= world_size {
            return Err(Error::config(format!("rank {rank} is not below the world size {world_size}")));
        }
        Ok(World { rank, world_size })
    }

    /// This process's number, from zero.
    pub fn rank(self) -> u32 {
        self.rank
    }

    /// How many processes share the epoch.
    pub fn world_size(self) -> u32 {
        self.world_size
    }
}

impl Default for World {
    fn default() -> Self {
        World::SINGLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_outside_the_world_is_refused() {
        assert!(World::new(0, 0).is_err());
        assert!(World::new(2, 2).is_err());
        assert_eq!(World::new(1, 2).unwrap().rank(), 1);
        assert_eq!(World::default(), World::new(0, 1).unwrap());
    }
}
