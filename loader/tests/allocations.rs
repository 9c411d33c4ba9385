//! In the steady state a batch costs no allocation: buffers, text and bookkeeping are used again. An allocator counts;
//! a few buffers may be made late, so what is held is a bound far below one a batch.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts and passes on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use loader::{CLIP_NORMALIZE, Captions, Epoch, Loader, Output, Remainder};
use testkit::Spec;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations while so many batches are delivered and given back.
fn allocations(epoch: &mut Epoch, batches: usize) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    for _ in 0..batches {
        let batch = epoch.next().unwrap().unwrap();
        assert!(!batch.is_empty());
    }
    ALLOCATIONS.load(Relaxed) - before
}

// One test alone: allocations of another thread would count.
#[test]
fn batches_in_the_steady_state_allocate_nothing() {
    let data = Spec::train(512).size(16).temporary();
    for output in [Output::U8, Output::F32(CLIP_NORMALIZE)] {
        for threads in [0, 1, 3] {
            let loader =
                Loader::builder(data.path()).batch_size(8).remainder(Remainder::DropLast).output(output);
            let loader = loader.captions(Captions::All).threads(threads).build().unwrap();
            let (mut counted, mut steady) = (0, 0);
            for epoch in 0..20 {
                let mut epoch = loader.epoch(epoch).unwrap();
                counted += allocations(&mut epoch, 8);
                steady += allocations(&mut epoch, 56);
            }
            assert!(counted > 0, "the allocator does not count");
            // When a worker takes its last buffer into use is its own affair; how often that may be is not.
            assert!(steady <= 60, "{steady} allocations in 1120 batches: {output:?}, {threads} threads");
        }
    }
}
