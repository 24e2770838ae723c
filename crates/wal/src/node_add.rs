//! The scanner of Add requests for the addon, as `src/ts/wal/native_binding.ts` declares it.

use crate::add_request::{ItemShapes, scan_add_request};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::cell::RefCell;

thread_local! {
    /// Requests of a producer are alike, too.
    static SHAPES: RefCell<ItemShapes> = RefCell::default();
}

const NONE: i32 = -1;
const RESULT_FIELDS: usize = 7;

/// Fills `result` with topic, store, queue, number and bytes of the items, those of another topic, and where an item is
/// malformed (or -1). Returns where the envelope is malformed, or -1. A body has less than 2^31 bytes.
#[napi]
pub fn scan_add_request_body(body: &[u8], own_topic_id: i32, mut result: Int32ArraySlice) -> Result<i32> {
    // SAFETY: the array is the caller's scratch, and nobody else touches it while this call runs.
    let fields = unsafe { result.as_mut() };
    if fields.len() < RESULT_FIELDS || body.len() > i32::MAX as usize {
        return Err(Error::from_reason("a result has 7 numbers, a body less than 2^31 bytes"));
    }
    match SHAPES.with_borrow_mut(|shapes| scan_add_request(body, own_topic_id, shapes)) {
        Err(malformed) => Ok(malformed.at as i32),
        Ok(scan) => {
            let malformed = scan.malformed_item.map_or(NONE, |start| start as i32);
            let counts = [scan.items, scan.item_bytes, scan.strangers].map(|count| count as i32);
            let ids = [scan.topic_id, scan.store_id, scan.queue_id];
            let values = ids.into_iter().chain(counts).chain([malformed]);
            fields.iter_mut().zip(values).for_each(|(field, value)| *field = value);
            Ok(NONE)
        }
    }
}
