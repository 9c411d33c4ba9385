//! glibc's allocator, told to keep the pages of freed tensors.
//!
//! A step frees what the next one allocates again. Given back to the system in between, every page would be
//! cleared by the kernel anew. (mimalloc that never gives back is as fast, and leaves more gaps between blocks of
//! many sizes.) Other C libraries are left as they are. This is the one home of the `unsafe` that the allocator's
//! settings need.

/// To be called first in `main`, before there are other threads. `MALLOC_TRIM_THRESHOLD_`,
/// `MALLOC_MMAP_THRESHOLD_` and `GLIBC_TUNABLES` in the environment go before.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_pages() {
    const SETTINGS: [(&str, &str, libc::c_int, libc::c_int); 2] = [
        // Free memory at the heap's end that is given back.
        ("MALLOC_TRIM_THRESHOLD_", "malloc.trim_threshold", libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        // Blocks that get a mapping of their own; larger values are refused.
        ("MALLOC_MMAP_THRESHOLD_", "malloc.mmap_threshold", libc::M_MMAP_THRESHOLD, 32 << 20),
    ];
    let tunables = std::env::var("GLIBC_TUNABLES").unwrap_or_default();
    for (variable, tunable, setting, value) in SETTINGS {
        if std::env::var_os(variable).is_none() && !tunables.contains(tunable) {
            #[expect(unsafe_code, reason = "the allocator is set up through its C interface")]
            // SAFETY: sets an integer under the allocator's own lock. A refused value changes nothing, and is only
            // slower.
            unsafe {
                libc::mallopt(setting, value)
            };
        }
    }
}

/// Nothing to set.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_pages() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    #[test]
    #[expect(unsafe_code, reason = "the allocator is set up through its C interface")]
    fn the_allocator_takes_these_settings() {
        // SAFETY: as above.
        let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20) };
        assert_eq!(taken, 1);
        super::keep_pages();
    }
}
