//! A batch's memory while several workers fill it, each a part of its samples, and once it is filled. The parts are
//! slices of one contiguous buffer, so nothing is put together at the end. Left out: what is written into them
//! ([`crate::collate`]) and where the memory goes afterwards ([`crate::pool`]).
#![expect(unsafe_code, reason = "parts of one slice for several threads: the one home of lending them")]

use std::{
    cell::UnsafeCell,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
};

use memmap2::MmapMut;

use crate::{batch::Pixels, text::Text};

/// Bytes to which pixels are aligned: a cache line, and the widest vector register.
pub const PIXEL_ALIGNMENT_BYTES: usize = 64;

/// Samples of a part: enough that handing one out costs nothing beside filling it, few enough that all workers have
/// some of a batch.
pub(crate) const PART_SAMPLES: usize = 16;

/// From so many bytes on, memory is asked of the system in huge pages: a batch's first touch then costs a page fault for
/// each 2 MiB and not for each 4 KiB.
const HUGE_BYTES: usize = 4 << 20;

/// A fixed-length piece of memory that starts at a multiple of [`PIXEL_ALIGNMENT_BYTES`].
#[derive(Debug)]
struct Aligned<T> {
    /// Keeps the memory, and is not looked at: all access is by the pointer.
    _owner: Owner<T>,
    start: *mut T,
    len: usize,
}

#[derive(Debug)]
enum Owner<T> {
    Heap { _values: Vec<T> },
    Mapped { _map: MmapMut },
}

/// Values for which all bits zero are one: what mapped memory begins with.
trait Value: Copy + Default {}
impl Value for u8 {}
impl Value for f32 {}

impl<T: Value> Aligned<T> {
    fn new(len: usize) -> Aligned<T> {
        let bytes = len.saturating_mul(size_of::<T>());
        // Where the system refuses a mapping, the allocator decides.
        if bytes >= HUGE_BYTES
            && let Ok(mut map) = MmapMut::map_anon(bytes)
        {
            #[cfg(target_os = "linux")]
            // Systems without huge pages do without.
            let _ = map.advise(memmap2::Advice::HugePage);
            let start = map.as_mut_ptr().cast();
            return Aligned { _owner: Owner::Mapped { _map: map }, start, len };
        }
        let spare = PIXEL_ALIGNMENT_BYTES / size_of::<T>().max(1);
        let mut values = vec![T::default(); len + spare];
        let first = values.as_mut_ptr();
        // `align_offset` may give up in theory; an unaligned start is slower and no less right.
        let start = first.wrapping_add(first.align_offset(PIXEL_ALIGNMENT_BYTES).min(spare));
        Aligned { _owner: Owner::Heap { _values: values }, start, len }
    }

    /// # Safety
    /// Nobody writes to the memory as long as the slice lives.
    unsafe fn all(&self) -> &[T] {
        // SAFETY: `start` leads to `len` values that `_owner` keeps, initialised when it was made; a mapping starts at
        // a page and is zeros, which are values.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    /// # Safety
    /// Nobody else reads or writes this part as long as the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the caller sees to it that each part is lent once")]
    unsafe fn part(&self, first: usize, len: usize) -> &mut [T] {
        assert!(first <= self.len && len <= self.len - first, "a part is within its buffer");
        // SAFETY: within the memory, as just checked; initialised when it was made.
        unsafe { slice::from_raw_parts_mut(self.start.add(first), len) }
    }
}

/// What the pixels of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    U8,
    F32,
}

#[derive(Debug)]
enum Memory {
    U8(Aligned<u8>),
    F32(Aligned<f32>),
}

/// The pixels of a part.
#[derive(Debug)]
pub(crate) enum PartPixels<'a> {
    U8(&'a mut [u8]),
    F32(&'a mut [f32]),
}

/// A part of a batch, lent to the worker that fills it.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) pixels: PartPixels<'a>,
    pub(crate) text: &'a mut Text,
    /// Bytes of the whole batch's pixels.
    pub(crate) batch_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    memory: Memory,
    /// Of each part.
    texts: Box<[UnsafeCell<Text>]>,
    /// Whether each part was lent since the memory was last somebody's alone.
    lent: Box<[AtomicBool]>,
    samples: usize,
    /// Values of a sample's pixels.
    values: usize,
}

// SAFETY: pixels and texts are reached through `Draft::lend`, which lends each part once, and through `Filled`, which
// is the only owner and lends for reading alone.
unsafe impl Sync for Shared {}
// SAFETY: the pointers lead to memory of the value's own, which no thread is tied to.
unsafe impl Send for Shared {}

/// Memory of a batch that is being filled. Clones are for the workers that fill it together.
#[derive(Clone, Debug)]
pub(crate) struct Draft(Arc<Shared>);

/// Memory of a batch that is filled; nobody else has it.
#[derive(Debug)]
pub(crate) struct Filled(Arc<Shared>);

impl Draft {
    /// New memory for `samples` samples of `values` values each.
    pub(crate) fn new(kind: Kind, samples: usize, values: usize) -> Draft {
        let parts = samples.div_ceil(PART_SAMPLES);
        let memory = match kind {
            Kind::U8 => Memory::U8(Aligned::new(samples * values)),
            Kind::F32 => Memory::F32(Aligned::new(samples * values)),
        };
        let texts = (0..parts).map(|_| UnsafeCell::default()).collect();
        let lent = (0..parts).map(|_| AtomicBool::new(false)).collect();
        Draft(Arc::new(Shared { memory, texts, lent, samples, values }))
    }

    /// Lends a part, once; nothing where there is no such part or it was lent before.
    pub(crate) fn lend(&self, part: usize) -> Option<Part<'_>> {
        let shared = &*self.0;
        if shared.lent.get(part)?.swap(true, AcqRel) {
            return None;
        }
        let samples = PART_SAMPLES.min(shared.samples - part * PART_SAMPLES);
        let (first, len) = (part * PART_SAMPLES * shared.values, samples * shared.values);
        // SAFETY: the flag lets one caller through for each part until the memory is somebody's alone again, which
        // `self`, borrowed for as long as what is lent, prevents; parts do not overlap.
        let pixels = unsafe {
            match &shared.memory {
                Memory::U8(memory) => PartPixels::U8(memory.part(first, len)),
                Memory::F32(memory) => PartPixels::F32(memory.part(first, len)),
            }
        };
        // SAFETY: as above.
        let text = unsafe { &mut *shared.texts[part].get() };
        Some(Part { pixels, text, batch_bytes: shared.bytes() })
    }

    /// Ends the filling; nothing where another worker still holds it.
    pub(crate) fn finish(mut self) -> Option<Filled> {
        Arc::get_mut(&mut self.0).is_some().then_some(Filled(self.0))
    }
}

impl Shared {
    fn bytes(&self) -> usize {
        match &self.memory {
            Memory::U8(memory) => memory.len,
            Memory::F32(memory) => memory.len * size_of::<f32>(),
        }
    }
}

impl Filled {
    /// All pixels.
    pub(crate) fn pixels(&self) -> Pixels<'_> {
        // SAFETY: the only owner lends no part while it is borrowed: `into_draft` takes it whole.
        unsafe {
            match &self.0.memory {
                Memory::U8(memory) => Pixels::U8(memory.all()),
                Memory::F32(memory) => Pixels::F32(memory.all()),
            }
        }
    }

    /// The texts of the parts, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text> {
        // SAFETY: as above.
        self.0.texts.iter().map(|text| unsafe { &*text.get() })
    }

    /// The text that tells of a sample, and the sample's place in it.
    pub(crate) fn text(&self, sample: usize) -> (&Text, usize) {
        // SAFETY: as above.
        (unsafe { &*self.0.texts[sample / PART_SAMPLES].get() }, sample % PART_SAMPLES)
    }

    /// The memory, to be filled anew: texts are forgotten, pixels stay until they are overwritten.
    pub(crate) fn into_draft(mut self) -> Draft {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.texts.iter_mut().for_each(|text| text.get_mut().clear());
            shared.lent.iter_mut().for_each(|lent| *lent.get_mut() = false);
        }
        Draft(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_aligned_and_exactly_as_long_as_asked() {
        for len in [0, 1, 63, 64, 100_000, HUGE_BYTES + 3] {
            let (bytes, floats) = (Aligned::<u8>::new(len), Aligned::<f32>::new(len));
            assert_eq!((bytes.start as usize % PIXEL_ALIGNMENT_BYTES, bytes.len), (0, len));
            assert_eq!((floats.start as usize % PIXEL_ALIGNMENT_BYTES, floats.len), (0, len));
        }
    }

    #[test]
    fn parts_filled_by_several_threads_are_one_slice_in_order() {
        for (kind, samples) in [(Kind::U8, 40), (Kind::F32, 16), (Kind::F32, 33), (Kind::U8, 1)] {
            let mut draft = Draft::new(kind, samples, 3);
            for round in 0..3u8 {
                std::thread::scope(|scope| {
                    for part in 0..samples.div_ceil(PART_SAMPLES) {
                        let draft = draft.clone();
                        scope.spawn(move || {
                            let lent = draft.lend(part).unwrap();
                            let value = |place: usize| (part * 3 * PART_SAMPLES + place) as u8 ^ round;
                            match lent.pixels {
                                PartPixels::U8(pixels) => {
                                    pixels.iter_mut().enumerate().for_each(|(i, pixel)| *pixel = value(i));
                                }
                                PartPixels::F32(pixels) => {
                                    pixels
                                        .iter_mut()
                                        .enumerate()
                                        .for_each(|(i, pixel)| *pixel = value(i).into());
                                }
                            }
                            lent.text.push(part as u64, "key", std::iter::empty());
                        });
                    }
                });
                let filled = draft.finish().unwrap();
                let found: Vec<f32> = match filled.pixels() {
                    Pixels::U8(pixels) => pixels.iter().copied().map(f32::from).collect(),
                    Pixels::F32(pixels) => pixels.to_vec(),
                };
                assert_eq!(found, (0..3 * samples).map(|i| f32::from(i as u8 ^ round)).collect::<Vec<_>>());
                let parts: Vec<u64> = filled.texts().map(|text| text.entries[0].sample).collect();
                assert_eq!(parts, (0..parts.len() as u64).collect::<Vec<_>>());
                draft = filled.into_draft();
            }
        }
    }

    #[test]
    fn a_part_is_lent_once_and_what_is_shared_is_not_finished() {
        let draft = Draft::new(Kind::U8, 20, 3);
        assert!(draft.lend(0).is_some() && draft.lend(0).is_none());
        assert!(
            draft
                .lend(1)
                .is_some_and(|part| matches!(part.pixels, PartPixels::U8(pixels) if pixels.len() == 12))
        );
        assert!(draft.lend(2).is_none());
        let other = draft.clone();
        assert!(draft.finish().is_none());
        let filled = other.finish().unwrap();
        assert!(filled.into_draft().lend(0).is_some());
    }
}
