//! Goal: a log may have more segments than a process may have descriptors, and lack of them ends by itself. Method: the
//! engine on files of which only so many may be open.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Faults, Waiter, body, entry, folder, open, options};
use phxqueue_wal::engine::Log;
use phxqueue_wal::error::ErrorCode;
use std::path::Path;
use std::sync::Arc;

/// As `segment_file.rs` has it.
const SEALED_OPEN_MAX: usize = 256;
/// The newest segment, the spare, the marks, and one that is being opened.
const OTHERS: usize = 4;

fn open_on(files: &Faults, folder: &Path) -> (Log, Waiter) {
    let (log, waiter) = open(options(folder), Arc::new(files.clone()));
    (log.unwrap(), waiter)
}

/// Three of them fill a segment.
fn fill(log: &Log, waiter: &Waiter, instances: std::ops::RangeInclusive<u64>) {
    for instance in instances {
        let bytes = body(instance, 1200);
        waiter.append(log, &[entry(1, instance, &[&bytes])]).unwrap();
    }
    waiter.settle(log);
}

fn check(log: &Log, instance: u64) {
    let entries = log.plan_read(1, instance, instance, 0).unwrap().read().unwrap();
    let (found, start, length) = entries.places[0];
    assert_eq!((found, &entries.bytes[start..start + length]), (instance, body(instance, 1200).as_slice()));
}

#[test]
fn few_of_many_segments_are_open_and_all_can_be_read() {
    const LAST: u64 = 900;
    let temporary = folder();
    let files = Faults::none();
    files.set_open_max(Some(SEALED_OPEN_MAX + OTHERS));
    let (log, waiter) = open_on(&files, temporary.path());
    fill(&log, &waiter, 1..=LAST);
    assert_eq!(log.stats().segments, 300);
    (1..=LAST).for_each(|instance| check(&log, instance));
    log.close().unwrap();
    assert_eq!(files.open_files(), 0);
    let (log, waiter) = open_on(&files, temporary.path());
    (1..=LAST).for_each(|instance| check(&log, instance));
    // A read that began before its segment was removed ends well, though the file was closed.
    let plan = log.plan_read(1, 1, 3, u64::MAX).unwrap();
    (50..=LAST).for_each(|instance| check(&log, instance));
    log.truncate(1, LAST);
    waiter.settle(&log);
    assert_eq!(plan.read().unwrap().places.len(), 3);
    assert_eq!(log.stats().segments, 1);
    assert!(files.open_files() <= OTHERS);
}

#[test]
fn threads_may_read_while_others_close_what_they_read() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    fill(&log, &waiter, 1..=900);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || (0..4000).for_each(|number| check(log, 1 + (number * 7 + thread * 225) % 900)));
        }
    });
    assert!(files.open_files() <= SEALED_OPEN_MAX + OTHERS);
}

#[test]
fn without_a_descriptor_the_log_goes_on_later() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    files.set_open_max(Some(files.open_files()));
    fill(&log, &waiter, 1..=4);
    assert!(waiter.low_on_space());
    waiter.append(&log, &[entry(2, 1, &[b"still fits"])]).unwrap();
    files.set_open_max(None);
    waiter.wait_for_space();
    fill(&log, &waiter, 5..=9);
    // A retired file is there, and cannot be opened: it stays.
    log.truncate(1, 7);
    log.truncate(2, 2);
    waiter.settle(&log);
    files.set_open_max(Some(files.open_files()));
    fill(&log, &waiter, 10..=12);
    assert!(waiter.low_on_space());
    assert_eq!(log.stats().disk_bytes, 8192 * (2 + 2));
    files.take_log();
    files.set_open_max(None);
    waiter.wait_for_space();
    waiter.settle(&log);
    assert!(!files.take_log().iter().any(|call| call.starts_with("create")));
    (7..=12).for_each(|instance| check(&log, instance));
}

#[test]
fn a_read_without_a_descriptor_closes_others_or_says_so() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    fill(&log, &waiter, 1..=900);
    files.set_open_max(Some(files.open_files()));
    (1..=9).for_each(|instance| check(&log, instance));
    files.set_open_max(Some(0));
    assert_eq!(log.plan_read(1, 700, 700, 0).unwrap().read().err().map(|error| error.code), Some(ErrorCode::Io));
    files.set_open_max(None);
    check(&log, 700);
}
