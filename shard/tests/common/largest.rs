//! Changed copies of sound bytes, and an allocator that remembers each thread's largest single allocation, so that a test
//! can say that none was huge.
#![allow(unreachable_pub, dead_code, reason = "each user takes its own part")]
#![expect(unsafe_code, reason = "an allocator is unsafe by nature; this one hands everything on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, watched.
pub struct Watched;

/// Bytes of this thread's largest allocation since it was last asked.
pub fn largest() -> usize {
    LARGEST.replace(0)
}

/// Hands on `count` changed copies of `sound`: bytes replaced by telling ones, cut, taken out, put in. No allocation of this
/// thread meanwhile may take `allocation_max` bytes.
pub fn mutate(sound: &[u8], count: usize, allocation_max: usize, mut with: impl FnMut(&[u8])) {
    largest();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below.max(1)
    };
    for _ in 0..count {
        let mut bytes = sound.to_vec();
        for _ in 0..=random(4) {
            // Headers decide: half of the changes hit the first 64 bytes.
            let at = if random(2) == 0 { random(64.min(bytes.len())) } else { random(bytes.len()) };
            match random(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + random(64)).min(bytes.len()))),
                2 => bytes.splice(at..at, vec![0xff; random(32)]).for_each(drop),
                _ if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x7f, 0x80, random(256) as u8][random(5)],
                _ => {}
            }
        }
        with(&bytes);
        let taken = largest();
        assert!(taken < allocation_max, "an allocation of {taken} bytes for {}", bytes.escape_ascii());
    }
}

fn note(bytes: usize) {
    // A thread that ends has no cell any more, and nothing to say.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc`, and so from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
