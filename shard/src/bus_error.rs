//! Turns the bus error of a mapped file that is cut short into zeros and a flag.
//!
//! Reading a mapping past its file's end raises SIGBUS, which ends the process without a word. Registered mappings
//! are spared that: the handler puts a page of zeros under the faulting address and marks the mapping as cut; the
//! reader then finds wrong checksums, or the mark, and says which file it was. A bus error elsewhere goes to whatever
//! handler there was before. It leaves out every other way in which a file can change under a mapping: those are the
//! checksums' to find.
//!
//! The handler only reads atomics and calls `mmap` and `sigaction`, which are system calls and take no lock.
#![expect(unsafe_code, reason = "a signal handler and a fixed mapping: nothing safe does either")]

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// A mapping that the handler knows, for as long as the value lives. It must be dropped before the mapping is.
#[derive(Debug)]
pub(crate) struct Guard {
    slot: &'static Slot,
}

/// An address range that may fault; free where `start` is zero.
#[derive(Debug, Default)]
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    cut: AtomicBool,
}

/// Slots in blocks that are never freed, so that the handler may walk them at any time.
struct Block {
    slots: [Slot; 256],
    next: OnceLock<Box<Block>>,
}

static FIRST: OnceLock<Box<Block>> = OnceLock::new();
/// Taken to register; never by the handler.
static REGISTER: Mutex<()> = Mutex::new(());
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// The handler that was there before ours.
struct Previous(libc::sigaction);

impl Block {
    fn new() -> Box<Block> {
        Box::new(Block { slots: std::array::from_fn(|_| Slot::default()), next: OnceLock::new() })
    }

    fn free_slot(&'static self) -> &'static Slot {
        let mut block = self;
        loop {
            if let Some(slot) = block.slots.iter().find(|slot| slot.start.load(Relaxed) == 0) {
                return slot;
            }
            block = block.next.get_or_init(Block::new);
        }
    }
}

impl Guard {
    /// Registers `bytes`, which lie at the start of a page, as a mapping's. Nothing to register in no bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Guard> {
        install();
        let start = bytes.as_ptr() as usize;
        if bytes.is_empty() || start == 0 {
            return None;
        }
        let _one_at_a_time = REGISTER.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = FIRST.get_or_init(Block::new).free_slot();
        slot.cut.store(false, Relaxed);
        slot.end.store(start + bytes.len(), Relaxed);
        // The handler takes a slot for used once it sees a start: that comes last.
        slot.start.store(start, Release);
        Some(Guard { slot })
    }

    /// Whether a read went past the end of the file since it was mapped.
    pub(crate) fn is_cut(&self) -> bool {
        self.slot.cut.load(Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.start.store(0, Release);
    }
}

/// The slot of the mapping around `address`.
fn slot_at(address: usize) -> Option<&'static Slot> {
    let mut block = FIRST.get();
    while let Some(current) = block {
        for slot in &current.slots {
            let start = slot.start.load(Acquire);
            // The end of the last page belongs to the mapping too.
            let end = slot.end.load(Relaxed).next_multiple_of(PAGE_BYTES.load(Relaxed).max(1));
            if start != 0 && (start..end).contains(&address) {
                return Some(slot);
            }
        }
        block = current.next.get();
    }
    None
}

/// Puts the handler in place, once a process.
fn install() {
    PREVIOUS.get_or_init(|| {
        // SAFETY: sysconf reads a constant of the system.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE_BYTES.store(usize::try_from(page_bytes).unwrap_or(4096), Relaxed);
        // SAFETY: a zeroed sigaction is a valid value of the C struct (default action, no flags, empty mask).
        let (mut action, mut previous): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_bus_error as *const () as usize;
        // On the alternate stack, where there is one, as the standard library's own handler.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both pointers are valid for the call, and `on_bus_error` has the signature of SA_SIGINFO.
        unsafe { libc::sigaction(libc::SIGBUS, &action, &mut previous) };
        Previous(previous)
    });
}

/// The signal handler.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands over a valid siginfo; its address is that of the fault where the
    // kernel itself raised the signal (a positive code).
    let address = unsafe { if (*info).si_code > 0 { (*info).si_addr() as usize } else { 0 } };
    if let Some(slot) = slot_at(address) {
        let page_bytes = PAGE_BYTES.load(Relaxed);
        let page = address & !(page_bytes - 1);
        // SAFETY: the page belongs to a mapping that is registered, hence alive, read-only and lent only as bytes
        // whose content nothing relies on before it is checked; replacing its page moves nothing else.
        let zeros = unsafe {
            libc::mmap(
                page as *mut c_void,
                page_bytes,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if zeros != libc::MAP_FAILED {
            slot.cut.store(true, Relaxed);
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Hands a signal that is not ours to the handler before ours, or to the system's default.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let handler = PREVIOUS.get().map(|Previous(action)| (action.sa_sigaction, action.sa_flags));
    match handler {
        Some((address, flags)) if address != libc::SIG_DFL && address != libc::SIG_IGN => {
            if flags & libc::SA_SIGINFO != 0 {
                // SAFETY: whoever installed the address with SA_SIGINFO promised this signature.
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(address) };
                handler(signal, info, context);
            } else {
                // SAFETY: whoever installed the address without SA_SIGINFO promised this signature.
                let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(address) };
                handler(signal);
            }
        }
        _ => {
            // SAFETY: a zeroed sigaction asks for the default action; the read faults again and ends the process.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGBUS, &default, ptr::null_mut());
            }
        }
    }
}
