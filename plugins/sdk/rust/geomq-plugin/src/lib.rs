//! The interface `geomq-plugin-1` for plugins in Rust. A plugin is a type that implements [`Plugin`] and is
//! handed to [`export!`]:
//!
//! ```
//! use geomq_plugin::{export, Batch, Outcome, Plugin};
//!
//! struct DropEmpty;
//!
//! impl Plugin for DropEmpty {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(DropEmpty)
//!     }
//!
//!     fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
//!         for (index, message) in batch.messages().enumerate() {
//!             if message.payload.is_empty() {
//!                 outcome.drop(index);
//!             }
//!         }
//!     }
//! }
//!
//! export!(DropEmpty);
//! ```
//!
//! A panic ends the call: the host throws the instance away and applies nothing of it.
#![no_std]

extern crate alloc;

mod batch;
mod exports;
pub mod json;
mod outcome;

pub use batch::{Batch, Message, Stage};
pub use exports::{most_emits, Running};
pub use outcome::{Level, Outcome};

use alloc::string::String;

/// A rule at work. It lives as long as its instance: until the rule is loaded anew, or a call ends in a panic.
pub trait Plugin: Sized {
    /// Begin with the entry's configuration (JSON); the error is told to the operator.
    fn new(config: &[u8]) -> Result<Self, String>;

    /// Work on a batch. What `outcome` is not told about passes unchanged.
    fn process(&mut self, batch: &Batch, outcome: &mut Outcome);

    /// Called about once a second, with nanoseconds since 1970, where the plugin is exported with `tick`.
    fn tick(&mut self, _now_ns: u64, _outcome: &mut Outcome) {}
}

/// Export a plugin's type to the host: `export!(Type);`, or `export!(Type, tick);` for one that is called
/// once a second, too.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        static RUNNING: $crate::Running<$plugin> = $crate::Running::new();

        #[no_mangle]
        pub extern "C" fn geomq_abi() -> i32 {
            1
        }

        #[no_mangle]
        pub extern "C" fn geomq_emits(most: u32) {
            $crate::Running::<$plugin>::told_emits(most)
        }

        #[no_mangle]
        pub extern "C" fn geomq_alloc(size: u32) -> *mut u8 {
            RUNNING.alloc(size as usize)
        }

        #[no_mangle]
        pub extern "C" fn geomq_init(_config: *const u8, length: u32) -> *const u8 {
            RUNNING.init(length as usize)
        }

        #[no_mangle]
        pub extern "C" fn geomq_process(_frame: *const u8, length: u32) -> u64 {
            RUNNING.process(length as usize)
        }
    };
    ($plugin:ty, tick) => {
        $crate::export!($plugin);

        #[no_mangle]
        pub extern "C" fn geomq_tick(now_ns: u64) -> u64 {
            RUNNING.tick(now_ns)
        }
    };
}
