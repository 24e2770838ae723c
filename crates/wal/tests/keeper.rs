//! Goal: what is done beside the writing keeps to its order, costs nothing, and ends. Method: the engine on files that
//! note what is asked of them and can be full; damage done to the files between two openings.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Faults, Waiter, body, entry, folder, open, options, state};
use phxqueue_wal::engine::{CorruptRecord, Log};
use phxqueue_wal::error::ErrorCode;
use phxqueue_wal::files::RealFiles;
use phxqueue_wal::format::{retired_segment_name, segment_name, spare_segment_name};
use phxqueue_wal::marks::{LogPosition, MARKS_BYTES, MARKS_NAME, read_marks};
use std::path::Path;
use std::sync::Arc;

const IDENTITY: [u8; 16] = [0xa5; 16];

fn open_on(files: &Faults, folder: &Path) -> (Log, Waiter) {
    let (log, waiter) = open(options(folder), Arc::new(files.clone()));
    (log.unwrap(), waiter)
}

fn reopen(folder: &Path) -> (Log, Waiter) {
    let (log, waiter) = open(options(folder), Arc::new(RealFiles));
    (log.unwrap(), waiter)
}

fn fill(log: &Log, waiter: &Waiter, group: u32, instances: std::ops::RangeInclusive<u64>) {
    for instance in instances {
        let bytes = body(instance, 1200);
        waiter.append(log, &[entry(group, instance, &[&bytes])]).unwrap();
        waiter.settle(log);
    }
}

fn is_there(log: &Log, group: u32, instance: u64) -> bool {
    let entries = log.plan_read(group, instance, instance, 0).unwrap().read().unwrap();
    entries.places.iter().all(|(_, start, length)| entries.bytes[*start..][..*length] == body(instance, 1200))
        && entries.places.len() == 1
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_clean_close_writes_both_copies_of_the_marks_and_one_of_them_may_be_lost() {
    let temporary = folder();
    let path = temporary.path().join(MARKS_NAME);
    let (log, waiter) = reopen(temporary.path());
    fill(&log, &waiter, 1, 1..=1);
    log.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), MARKS_BYTES);
    let found = read_marks(&bytes, &IDENTITY).unwrap();
    let record = found.record.unwrap();
    assert_eq!(
        (record.durable, record.clean, record.lost),
        (LogPosition { segment: 1, offset: 4096 + 1240 }, true, false)
    );
    assert_eq!((record.segments, found.damaged), (vec![1], 0));
    for copy in [0, MARKS_BYTES / 2] {
        flip(&path, copy + 42);
        let (log, _) = reopen(temporary.path());
        assert_eq!((log.recovery().damaged_marks, log.recovery().corrupt.len()), (1, 0));
        log.close().unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        let (log, _) = reopen(temporary.path());
        let lost = CorruptRecord { segment: 0, offset: 0, group: None, instance: None };
        assert_eq!(log.recovery().corrupt, [lost]);
    }
}

#[test]
fn marks_are_written_before_a_segment_is_removed_and_the_spare_is_made_of_it() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    fill(&log, &waiter, 1, 1..=6);
    files.take_log();
    log.truncate(1, 4);
    waiter.settle(&log);
    // The file of the marks is known by the name that it was made under.
    let retired = ["write marks.new", "sync marks.new", "rename 0000000001.seg.old", "sync_folder log"];
    assert_eq!(files.take_log(), retired);
    fill(&log, &waiter, 1, 7..=7);
    let asked = files.take_log();
    let spare = "0000000004.seg.new";
    assert!(!asked.contains(&format!("create {spare}")));
    let renamed = asked.iter().position(|call| call == &format!("rename {spare}")).unwrap();
    // The file is known by the name that it was opened under.
    assert_eq!(asked[renamed + 1..renamed + 3], ["write 0000000001.seg.old", "sync 0000000001.seg.old"]);
    assert!((4..=7).all(|instance| is_there(&log, 1, instance)));
}

#[test]
fn files_beside_the_log_are_taken_over_if_they_are_sound() {
    let temporary = folder();
    let (log, waiter) = reopen(temporary.path());
    fill(&log, &waiter, 1, 1..=9);
    log.truncate(1, 7);
    waiter.settle(&log);
    log.close().unwrap();
    let path = |name: String| temporary.path().join(name);
    assert!(path(spare_segment_name(4)).exists());
    assert!(path(retired_segment_name(1)).exists() && path(retired_segment_name(2)).exists());
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    assert!(!files.take_log().iter().any(|call| call.contains("create")), "the spare is there");
    assert_eq!(log.stats().disk_bytes, 8192 * (1 + 1 + 2));
    log.close().unwrap();
    flip(&path(spare_segment_name(4)), 20);
    std::fs::write(path(retired_segment_name(1)), b"short").unwrap();
    let (log, waiter) = reopen(temporary.path());
    waiter.settle(&log);
    assert!(!path(retired_segment_name(1)).exists());
    fill(&log, &waiter, 1, 10..=12);
    log.close().unwrap();
    let (log, _) = reopen(temporary.path());
    assert_eq!(log.recovery().corrupt, []);
    assert!((7..=12).all(|instance| is_there(&log, 1, instance)));
}

#[test]
fn what_lives_in_sparse_segments_is_moved_and_nothing_is_overtaken() {
    let temporary = folder();
    let (log, waiter) = reopen(temporary.path());
    let mut appends = 0;
    for round in 1..=30_u64 {
        let bytes = body(round, 700);
        let number = round.to_string();
        for instance in 1..=3 {
            log.append(&[entry(1, instance, &[&bytes])]).unwrap();
        }
        log.append(&[state(1, 0, &[number.as_bytes()]), entry(2, round, &[&bytes])]).unwrap();
        log.truncate(2, round);
        appends += 4;
        if round % 7 == 0 {
            waiter.wait_for(appends).unwrap();
        }
    }
    waiter.settle(&log);
    log.close().unwrap();
    let (log, _) = reopen(temporary.path());
    assert_eq!(log.state(1, 0).unwrap(), Some(b"30".to_vec()));
    let entries = log.plan_read(1, 0, 9, u64::MAX).unwrap().read().unwrap();
    assert_eq!(entries.places.len(), 3);
    assert!(entries.places.iter().all(|(_, start, length)| entries.bytes[*start..][..*length] == body(30, 700)));
}

#[test]
fn a_damaged_record_is_neither_moved_nor_dropped() {
    let temporary = folder();
    let (log, waiter) = reopen(temporary.path());
    fill(&log, &waiter, 1, 1..=1);
    waiter.append(&log, &[state(2, 0, &[b"sound"])]).unwrap();
    fill(&log, &waiter, 3, 1..=6);
    flip(&temporary.path().join(segment_name(1)), 4096 + 40);
    log.truncate(3, 100);
    waiter.settle(&log);
    assert!(temporary.path().join(segment_name(1)).exists());
    assert_eq!(log.plan_read(1, 1, 1, 0).unwrap().read().err().unwrap().code, ErrorCode::Corrupt);
    assert_eq!(log.state(2, 0).unwrap(), Some(b"sound".to_vec()));
    log.close().unwrap();
    let (log, waiter) = reopen(temporary.path());
    let damaged = CorruptRecord { segment: 1, offset: 4096, group: Some(1), instance: Some(1) };
    assert_eq!(log.recovery().corrupt, [damaged]);
    fill(&log, &waiter, 1, 1..=1);
    fill(&log, &waiter, 4, 1..=4);
    log.truncate(3, 100);
    log.truncate(4, 100);
    waiter.settle(&log);
    assert!(log.stats().rewritten_bytes > 0);
    assert!(!temporary.path().join(segment_name(1)).exists());
    assert!(is_there(&log, 1, 1));
    assert_eq!(log.state(2, 0).unwrap(), Some(b"sound".to_vec()));
}

#[test]
fn on_a_full_disk_the_newest_segment_serves_what_fits_and_space_that_returns_is_found() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    files.set_full(true);
    let mut last = 0;
    while !waiter.low_on_space() {
        last += 1;
        fill(&log, &waiter, 1, last..=last);
    }
    let refused = loop {
        let bytes = body(last + 1, 1200);
        match log.append(&[entry(1, last + 1, &[&bytes])]) {
            Ok(()) => waiter.settle(&log),
            Err(error) => break error,
        }
        last += 1;
    };
    assert_eq!(refused.code, ErrorCode::Full);
    waiter.append(&log, &[state(1, 0, &[b"still fits"])]).unwrap();
    // An append that was promised waits, and with it those behind.
    let bytes = body(last + 1, 1200);
    let parts = [bytes.as_slice()];
    let promised = [entry(1, last + 1, &parts)];
    log.append_accepted([promised.as_slice()].into_iter()).unwrap();
    waiter.settle(&log);
    assert!(waiter.low_on_space() && !log.has(1, last + 1));
    files.set_full(false);
    waiter.wait_for_space();
    waiter.settle(&log);
    assert!((1..=last + 1).all(|instance| is_there(&log, 1, instance)));
}

#[test]
fn what_waits_for_space_is_given_up_at_a_close() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    files.set_full(true);
    let bytes = body(1, 1200);
    for instance in 1..=12 {
        log.append_accepted([[entry(1, instance, &[&bytes])].as_slice()].into_iter()).unwrap();
    }
    waiter.settle(&log);
    log.close().unwrap();
    assert_eq!(waiter.wait_for(12).unwrap_err().code, ErrorCode::Full);
    let (log, _) = reopen(temporary.path());
    assert_eq!(log.recovery().corrupt, []);
    let last = log.bounds(1).unwrap().1;
    assert!((3..12).contains(&last));
}

#[test]
fn a_log_that_ends_with_a_seal_opens_on_a_full_disk_and_goes_on_when_there_is_space() {
    let temporary = folder();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    files.set_full(true);
    let bytes = body(1, 1200);
    for instance in 1..=12 {
        log.append_accepted([[entry(1, instance, &[&bytes])].as_slice()].into_iter()).unwrap();
    }
    waiter.settle(&log);
    log.close().unwrap();
    // Twice: what the first opening says of the log must hold for the next.
    for _ in 0..2 {
        let (log, waiter) = open_on(&files, temporary.path());
        assert!(log.low_on_space() && waiter.low_on_space());
        assert_eq!((log.recovery().corrupt.len(), log.bounds(1)), (0, Some((1, 6))));
        assert_eq!(log.append(&[state(1, 0, &[b"a promise"])]).unwrap_err().code, ErrorCode::Full);
        log.close().unwrap();
    }
    // Retention: the first segment becomes the next.
    let (log, waiter) = open_on(&files, temporary.path());
    log.truncate(1, 4);
    waiter.settle(&log);
    assert!(!log.low_on_space());
    fill(&log, &waiter, 1, 7..=8);
    assert!(waiter.low_on_space());
    files.set_full(false);
    waiter.wait_for_space();
    fill(&log, &waiter, 1, 9..=20);
    log.close().unwrap();
    let (log, _) = reopen(temporary.path());
    assert_eq!(log.recovery().corrupt, []);
    assert_eq!(log.bounds(1), Some((4, 20)));
    assert!((7..=20).all(|instance| is_there(&log, 1, instance)));
}

#[test]
fn forgotten_damage_is_reported_no_more_and_nothing_sound_is_lost() {
    let temporary = folder();
    let (log, waiter) = reopen(temporary.path());
    fill(&log, &waiter, 1, 1..=11);
    log.close().unwrap();
    // A header of a sealed segment, another segment, and a header of the newest one.
    for (segment, at) in [(1, 4096), (4, 4096)] {
        flip(&temporary.path().join(segment_name(segment)), at);
    }
    std::fs::remove_file(temporary.path().join(segment_name(2))).unwrap();
    let (log, waiter) = reopen(temporary.path());
    assert_eq!(log.recovery().corrupt.len(), 3);
    let sound: Vec<u64> = (1..=11).filter(|instance| log.has(1, *instance)).collect();
    assert_eq!(sound, [2, 3, 7, 8, 9, 11]);
    log.forget_damage();
    waiter.settle(&log);
    log.close().unwrap();
    let (log, _) = reopen(temporary.path());
    assert_eq!(log.recovery().corrupt, []);
    assert!(sound.iter().all(|instance| is_there(&log, 1, *instance)));
}

#[test]
fn an_opening_writes_again_what_may_be_in_memory_only() {
    let temporary = folder();
    let (log, waiter) = reopen(temporary.path());
    fill(&log, &waiter, 1, 1..=2);
    log.close().unwrap();
    let files = Faults::none();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    let spare = spare_segment_name(2);
    let marks = ["write marks".to_string(), "sync marks".to_string()];
    let known = ["sync_folder log".to_string(), "sync 0000000001.seg".to_string()];
    let beside = [format!("write {spare}"), format!("sync {spare}")];
    // Behind a clean close it notes that it was there.
    assert_eq!(files.take_log(), [marks.as_slice(), &known, &beside, &marks, &marks].concat());
    // What the marks do not call durable is written again, too.
    let lagging = std::fs::read(temporary.path().join(MARKS_NAME)).unwrap();
    fill(&log, &waiter, 1, 3..=3);
    let segment = std::fs::read(temporary.path().join(segment_name(1))).unwrap();
    log.close().unwrap();
    std::fs::write(temporary.path().join(MARKS_NAME), lagging).unwrap();
    std::fs::write(temporary.path().join(segment_name(1)), segment).unwrap();
    let (log, waiter) = open_on(&files, temporary.path());
    waiter.settle(&log);
    assert!(files.take_log().contains(&format!("write {}", segment_name(1))));
    assert!((1..=3).all(|instance| is_there(&log, 1, instance)));
}
