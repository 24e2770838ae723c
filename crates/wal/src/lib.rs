//! The log engine of PhxQueue: one log for all groups of a process, with group commit on a thread of its own, and a
//! second thread that keeps the files.
//!
//! The bytes on disk are those of `docs/on-disk-format.md`; `src/ts/wal/portable.ts` reads and writes the same, and the
//! modules here mirror the ones there. `engine` is the way in, `node` the addon around it.
#![deny(unsafe_code)]

pub mod add_request;
mod contents;
pub mod engine;
pub mod error;
pub mod files;
pub mod format;
mod found_segment;
mod index;
mod keeper;
mod lock;
pub mod marks;
mod queue;
mod read;
mod recovery;
mod scan;
mod segment_bytes;
mod segment_file;
mod segment_reader;
mod shared;
mod spare_segments;
mod states;
mod writer;

/// The binding is the only place that touches memory of JavaScript.
#[cfg(feature = "node")]
#[allow(unsafe_code, missing_docs)]
#[cfg_attr(test, allow(dead_code))]
mod node;
#[cfg(feature = "node")]
#[allow(unsafe_code)]
#[cfg_attr(test, allow(dead_code))]
mod node_add;
#[cfg(feature = "node")]
#[cfg_attr(test, allow(dead_code))]
mod node_append;
