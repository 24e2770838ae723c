//! The form in which the appends of a turn come over from JavaScript (`src/ts/wal/native_appends.ts` writes it).
//!
//! `keys` has four numbers for each record: its kind, plus LAST if it ends its append; group; instance; and where its body
//! is: how many of the `parts`, or -1 - n for the next n bytes of `small`. An append without records is one item of kind 0.

use crate::engine::Record;
use crate::format::{KIND_ENTRY, KIND_STATE};
use napi::{Error, Result};
use std::ops::Range;

const FIELDS: usize = 4;
const LAST: u32 = 16;

/// The appends of a turn, their bodies borrowed.
pub(crate) struct Gathered<'call> {
    keys: Vec<(u8, u32, u64)>,
    /// Parts of all bodies, and those of each record.
    slices: Vec<&'call [u8]>,
    bodies: Vec<Range<usize>>,
    /// Records of each append.
    appends: Vec<Range<usize>>,
}

impl<'call> Gathered<'call> {
    pub fn read(keys: &[f64], items: u32, small: &'call [u8], parts: &[&'call [u8]]) -> Result<Self> {
        let incomplete = || Error::from_reason("an append has all of its records, and these all of their bodies");
        let items = items as usize;
        let mut read = Gathered {
            keys: Vec::with_capacity(items),
            slices: Vec::with_capacity(items.max(parts.len())),
            bodies: Vec::with_capacity(items),
            appends: Vec::with_capacity(items),
        };
        let (mut small, mut parts, mut append_start) = (small, parts, 0);
        for key in keys.get(..items * FIELDS).ok_or_else(incomplete)?.chunks_exact(FIELDS) {
            let (kind, last) = (key[0] as u32 & (LAST - 1), key[0] as u32 & LAST != 0);
            let start = read.slices.len();
            if key[3] < 0.0 {
                let (body, rest) = small.split_at_checked((-1.0 - key[3]) as usize).ok_or_else(incomplete)?;
                read.slices.push(body);
                small = rest;
            } else {
                let (body, rest) = parts.split_at_checked(key[3] as usize).ok_or_else(incomplete)?;
                read.slices.extend_from_slice(body);
                parts = rest;
            }
            if kind != 0 {
                let kind = if kind == u32::from(KIND_STATE) { KIND_STATE } else { KIND_ENTRY };
                read.keys.push((kind, key[1] as u32, key[2] as u64));
                read.bodies.push(start..read.slices.len());
            }
            if last {
                read.appends.push(append_start..read.keys.len());
                append_start = read.keys.len();
            }
        }
        Ok(read)
    }

    /// All records.
    pub fn records(&self) -> Vec<Record<'_>> {
        let record = |(key, body): (&(u8, u32, u64), &Range<usize>)| {
            let (kind, group, instance) = *key;
            Record { kind, group, instance, body: &self.slices[body.clone()] }
        };
        self.keys.iter().zip(&self.bodies).map(record).collect()
    }

    /// The records of each append; `records` are all.
    pub fn appends<'a>(&'a self, records: &'a [Record<'a>]) -> impl Iterator<Item = &'a [Record<'a>]> {
        self.appends.iter().map(|append| &records[append.clone()])
    }
}
