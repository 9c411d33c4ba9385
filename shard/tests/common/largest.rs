//! An allocator that remembers each thread's largest single allocation, so that a test can say that none was huge.
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
