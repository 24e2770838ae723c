//! The engine on the files of this machine: what it gives back, what it recovers, and many threads at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Faults, body, entry, folder, open, options, state};
use phxqueue_wal::engine::{CorruptRecord, Log, Options};
use phxqueue_wal::error::ErrorCode;
use phxqueue_wal::files::RealFiles;
use phxqueue_wal::format::{SEGMENT_HEADER_BYTES, segment_name};
use phxqueue_wal::marks::MARKS_NAME;
use std::sync::Arc;

fn bodies(log: &Log, group: u32) -> Vec<(u64, Vec<u8>)> {
    let entries = log.plan_read(group, 0, u64::MAX, u64::MAX).unwrap().read().unwrap();
    let body =
        |(instance, start, length): &(u64, usize, usize)| (*instance, entries.bytes[*start..][..*length].to_vec());
    entries.places.iter().map(body).collect()
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let temporary = folder();
    let (log, waiter) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    waiter.append(&log, &[entry(7, 1, &[b"on", b"", b"e"]), state(7, 0, &[b"promise"])]).unwrap();
    waiter.append(&log, &[entry(7, 3, &[]), state(7, 0, &[b"a higher promise"])]).unwrap();
    log.close().unwrap();
    assert_eq!(log.append(&[]).unwrap_err().code, ErrorCode::Closed);
    assert_eq!(log.plan_read(7, 0, 9, 9).err().unwrap().code, ErrorCode::Closed);
    let (log, _) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    assert_eq!((log.recovery().records, log.recovery().torn_bytes), (4, 0));
    assert_eq!(bodies(&log, 7), [(1, b"one".to_vec()), (3, vec![])]);
    assert_eq!(log.state(7, 0).unwrap(), Some(b"a higher promise".to_vec()));
    assert_eq!((log.groups(), log.bounds(7)), (vec![7], Some((1, 3))));
}

#[test]
fn one_holder_at_a_time() {
    let temporary = folder();
    let (first, _) = open(options(temporary.path()), Arc::new(RealFiles));
    let first = first.unwrap();
    // More often than a socket's backlog holds.
    for _ in 0..300 {
        let (second, _) = open(options(temporary.path()), Arc::new(RealFiles));
        assert_eq!(second.err().map(|error| error.code), Some(ErrorCode::Locked));
    }
    first.close().unwrap();
    let (second, _) = open(options(temporary.path()), Arc::new(RealFiles));
    assert!(second.is_ok());
}

#[test]
fn another_identity_is_refused() {
    let temporary = folder();
    let (log, _) = open(options(temporary.path()), Arc::new(RealFiles));
    log.unwrap().close().unwrap();
    let (other, _) = open(Options { identity: [1; 16], ..options(temporary.path()) }, Arc::new(RealFiles));
    assert_eq!(other.err().map(|error| error.code), Some(ErrorCode::Identity));
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_it_is_kept() {
    let temporary = folder();
    let (log, waiter) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    let marks = std::fs::read(temporary.path().join(MARKS_NAME)).unwrap();
    for instance in 1..=3 {
        let bytes = body(instance, 100);
        waiter.append(&log, &[entry(1, instance, &[&bytes])]).unwrap();
    }
    let path = temporary.path().join(segment_name(1));
    let killed = std::fs::read(&path).unwrap();
    log.close().unwrap();
    let record_bytes = 40 + 104;
    let third = SEGMENT_HEADER_BYTES as usize + 2 * record_bytes;

    let mut torn = killed.clone();
    torn[third + 50] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    // As they were before: a kill leaves marks that lag behind.
    std::fs::write(temporary.path().join(MARKS_NAME), &marks).unwrap();
    let (log, _) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    assert_eq!((log.recovery().torn_bytes > 0, log.bounds(1)), (true, Some((1, 2))));
    log.close().unwrap();

    let mut damaged = killed;
    damaged[third - record_bytes + 50] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (log, _) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    let offset = (third - record_bytes) as u32;
    let second = CorruptRecord { segment: 1, offset, group: Some(1), instance: Some(2) };
    assert_eq!((log.recovery().torn_bytes, &log.recovery().corrupt), (0, &vec![second]));
    assert_eq!(log.plan_read(1, 2, 2, 0).unwrap().read().err().map(|error| error.code), Some(ErrorCode::Corrupt));
    assert_eq!(log.bounds(1), Some((1, 3)));
}

#[test]
fn a_read_outlives_the_truncation_of_its_segment() {
    let temporary = folder();
    let (log, waiter) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    let large = body(1, 3000);
    for instance in 1..=5 {
        waiter.append(&log, &[entry(1, instance, &[&large])]).unwrap();
    }
    let plan = log.plan_read(1, 1, 5, u64::MAX).unwrap();
    log.truncate(1, 5);
    waiter.append(&log, &[entry(1, 6, &[])]).unwrap();
    waiter.settle(&log);
    assert!(!temporary.path().join(segment_name(1)).exists());
    assert_eq!(plan.read().unwrap().places.len(), 5);
}

#[test]
fn of_many_groups_that_take_turns_one_is_read_with_little_of_the_others() {
    const ROUNDS: u64 = 40;
    for (groups, bytes) in [(100, 100), (10, 1000), (5, 300)] {
        let temporary = folder();
        let files = Faults::none();
        let larger = Options { segment_bytes: 1 << 18, ..options(temporary.path()) };
        let (log, waiter) = open(larger, Arc::new(files.clone()));
        let log = log.unwrap();
        for instance in 1..=ROUNDS {
            let bytes = body(instance, bytes);
            let bodies = [bytes.as_slice()];
            let records: Vec<_> = (0..groups).map(|group| entry(group, instance, &bodies)).collect();
            waiter.append(&log, &records).unwrap();
        }
        files.take_read_bytes();
        let expected: Vec<_> = (1..=ROUNDS).map(|instance| (instance, body(instance, bytes))).collect();
        assert_eq!(bodies(&log, 3), expected);
        let read_bytes = files.take_read_bytes();
        assert!(read_bytes <= 4 * ROUNDS as usize * (40 + bytes.next_multiple_of(8)), "{read_bytes} bytes");
    }
}

#[test]
fn threads_share_commits() {
    const THREADS: u64 = 8;
    const APPENDS: u64 = 200;
    let temporary = folder();
    let (log, waiter) = open(Options { segment_bytes: 1 << 20, ..options(temporary.path()) }, Arc::new(RealFiles));
    let log = log.unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..APPENDS {
                    let bytes = body(number, 50);
                    log.append(&[entry(thread as u32, number, &[&bytes])]).unwrap();
                }
            });
        }
    });
    waiter.wait_for(THREADS * APPENDS).unwrap();
    assert!(log.stats().syncs < THREADS * APPENDS);
    for thread in 0..THREADS {
        let expected: Vec<_> = (0..APPENDS).map(|number| (number, body(number, 50))).collect();
        assert_eq!(bodies(&log, thread as u32), expected);
    }
}

#[test]
fn what_does_not_fit_into_a_segment_changes_nothing() {
    let temporary = folder();
    let (log, waiter) = open(options(temporary.path()), Arc::new(RealFiles));
    let log = log.unwrap();
    let large = vec![0; 8192 - 4096 - 80 + 1];
    assert_eq!(log.append(&[entry(1, 1, &[&large])]).unwrap_err().code, ErrorCode::SizeTooLarge);
    assert_eq!(log.stats().live_bytes, 0);
    let fitting = &large[1..];
    waiter.append(&log, &[entry(1, 1, &[fitting])]).unwrap();
    assert_eq!(bodies(&log, 1), [(1, fitting.to_vec())]);
}
