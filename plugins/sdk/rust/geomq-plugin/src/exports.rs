//! What stands between the exported functions and the plugin's type.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{Batch, Outcome, Plugin};

/// What hosts take that do not tell.
static MOST_EMITS: AtomicU32 = AtomicU32::new(1000);

/// How many messages a tick may add, or one message of a batch: the entry's `limits.emits`.
pub fn most_emits() -> u32 {
    MOST_EMITS.load(Relaxed)
}

struct Parts<P> {
    plugin: Option<P>,
    /// What the host writes into: words, for the frame has to begin at a multiple of 8.
    input: Vec<u64>,
    /// What the host reads after a call.
    output: Vec<u8>,
}

/// The one instance of a plugin in its module. Only [`export!`](crate::export) makes one.
pub struct Running<P>(UnsafeCell<Parts<P>>);

// A module has one thread, and the host calls one function at a time.
unsafe impl<P> Sync for Running<P> {}

impl<P: Plugin> Running<P> {
    #[doc(hidden)]
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Running(UnsafeCell::new(Parts { plugin: None, input: Vec::new(), output: Vec::new() }))
    }

    #[allow(clippy::mut_from_ref)]
    fn parts(&self) -> &mut Parts<P> {
        // No other reference exists: each export takes one and gives it up before it returns.
        unsafe { &mut *self.0.get() }
    }

    /// Room for what the host hands over, the same block each time where it is large enough; null if there
    /// is none.
    pub fn alloc(&self, size: usize) -> *mut u8 {
        let parts = self.parts();
        let words = size / 8 + 1;
        parts.output = Vec::new();
        if parts.input.len() < words {
            parts.input = Vec::new();
            if parts.input.try_reserve_exact(words).is_err() {
                return core::ptr::null_mut();
            }
            parts.input.resize(words, 0);
        }
        parts.input.as_mut_ptr() as *mut u8
    }

    /// The host takes so many messages of a tick.
    pub fn told_emits(most: u32) {
        MOST_EMITS.store(most, Relaxed)
    }

    /// Begin; the error's text, null where there is none.
    pub fn init(&self, length: usize) -> *const u8 {
        let parts = self.parts();
        match P::new(input(&parts.input, length)) {
            Ok(plugin) => {
                parts.plugin = Some(plugin);
                core::ptr::null()
            }
            Err(text) => {
                parts.output = terminated(text);
                parts.output.as_ptr()
            }
        }
    }

    /// Work on the batch that the host has written.
    pub fn process(&self, length: usize) -> u64 {
        let parts = self.parts();
        let batch = Batch::new(input(&parts.input, length));
        let mut outcome = Outcome::new(batch.len());
        parts.plugin.as_mut().expect("geomq_init comes first").process(&batch, &mut outcome);
        parts.output = outcome.into_frame();
        packed(&parts.output)
    }

    /// A second has passed.
    pub fn tick(&self, now_ns: u64) -> u64 {
        let parts = self.parts();
        let mut outcome = Outcome::new(0);
        parts.plugin.as_mut().expect("geomq_init comes first").tick(now_ns, &mut outcome);
        parts.output = outcome.into_frame();
        packed(&parts.output)
    }
}

fn input(words: &[u64], length: usize) -> &[u8] {
    assert!(length <= words.len() * 8);
    // The words are longer than that, and bytes need no alignment.
    unsafe { core::slice::from_raw_parts(words.as_ptr() as *const u8, length) }
}

fn terminated(text: String) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.into_bytes().into_iter().filter(|byte| *byte != 0).collect();
    bytes.push(0);
    bytes
}

fn packed(frame: &[u8]) -> u64 {
    if frame.is_empty() {
        0
    } else {
        (frame.as_ptr() as usize as u64) << 32 | frame.len() as u64
    }
}
