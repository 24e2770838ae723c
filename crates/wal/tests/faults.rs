//! Goal: whatever call fails, nothing that was reported durable is lost, nothing is reported that is not durable, and
//! nothing is written after the failure. Method: the engine on files that fail once, at each call of one workload.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Faults, Waiter, body, entry, folder, open, options, state};
use phxqueue_wal::engine::{Log, Options, Record};
use phxqueue_wal::error::ErrorCode;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const INSTANCES: u64 = 14;
/// After an instance the log is truncated below another: first one segment dies, then more than are kept for later.
const TRUNCATIONS: [(u64, u64); 2] = [(5, 3), (13, 11)];

/// Fills several segments and truncates: every kind of call happens. Returns the instances reported durable that were
/// not truncated.
fn work(log: &Log, waiter: &Waiter) -> BTreeSet<u64> {
    let mut durable = BTreeSet::new();
    for instance in 1..=INSTANCES {
        let large = body(instance, 1800);
        let slot = instance.to_string();
        let (large, slot) = ([large.as_slice()], [slot.as_bytes()]);
        if waiter.append(log, &[entry(1, instance, &large), state(2, 0, &slot)]).is_ok() {
            durable.insert(instance);
        }
        let truncation = TRUNCATIONS.iter().find(|(after, _)| *after == instance);
        if let Some((_, before)) = truncation.filter(|(after, _)| durable.contains(after)) {
            log.truncate(1, *before);
            durable.retain(|instance| instance >= before);
        }
    }
    waiter.settle(log);
    durable
}

fn check_entries(log: &Log, durable: &BTreeSet<u64>) {
    for instance in durable {
        let entries = log.plan_read(1, *instance, *instance, 0).unwrap().read().unwrap();
        let (found, start, length) = entries.places[0];
        assert_eq!((found, &entries.bytes[start..start + length]), (*instance, body(*instance, 1800).as_slice()));
    }
}

fn check_survivors(folder: &Path, durable: &BTreeSet<u64>) {
    let (log, _) = open(options(folder), Arc::new(Faults::none()));
    let log = log.unwrap();
    assert_eq!(log.recovery().corrupt, []);
    check_entries(&log, durable);
    let slot = log.state(2, 0).unwrap().map_or(0, |slot| String::from_utf8(slot).unwrap().parse().unwrap());
    assert!(slot >= durable.last().copied().unwrap_or(0));
}

#[test]
fn each_call_that_fails_poisons_the_log_and_costs_nothing_durable() {
    for call in ["create", "write", "sync", "rename", "sync_folder", "unlink"] {
        for after in 0.. {
            let temporary = folder();
            let faults = Arc::new(Faults::none());
            let (log, waiter) = open(options(temporary.path()), faults.clone());
            let log = log.unwrap();
            faults.fail_on(call, after);
            let durable = work(&log, &waiter);
            let failed = faults.has_failed();
            if failed {
                let written = faults.calls();
                let late = waiter.append(&log, &[entry(1, 100, &[b"late"])]);
                assert_eq!(late.unwrap_err().code, ErrorCode::Poisoned);
                check_entries(&log, &durable);
                log.close().unwrap();
                assert_eq!(faults.calls(), written, "nothing is written after a failure");
            }
            drop(log);
            check_survivors(temporary.path(), &durable);
            if !failed {
                assert_eq!(durable, (11..=INSTANCES).collect());
                assert!(after > 0, "the workload calls {call}");
                break;
            }
        }
    }
}

#[test]
fn a_failure_while_opening_is_reported_and_leaves_the_folder_free() {
    let temporary = folder();
    for call in ["create", "write", "sync", "rename", "sync_folder"] {
        let faults = Arc::new(Faults::none());
        faults.fail_on(call, 0);
        let (log, _) = open(options(temporary.path()), faults);
        assert_eq!(log.err().map(|error| error.code), Some(ErrorCode::Io), "{call}");
        // What a failed opening left behind must not matter.
        let _ = std::fs::remove_dir_all(temporary.path());
    }
    let (log, _) = open(options(temporary.path()), Arc::new(Faults::none()));
    log.unwrap();
}

#[test]
fn failures_end_all_that_wait() {
    let temporary = folder();
    let faults = Arc::new(Faults::none());
    let (log, waiter) = open(options(temporary.path()), faults.clone());
    let log = log.unwrap();
    faults.fail_on("sync", 0);
    let large = vec![7; 3000];
    let large: &[&[u8]] = &[&large];
    for instance in 0..5 {
        log.append(&[Record { kind: 1, group: 1, instance, body: large }]).unwrap();
    }
    assert_eq!(waiter.wait_for(5).unwrap_err().code, ErrorCode::Poisoned);
    assert_eq!(log.bounds(1), None, "nothing of a failed batch is visible");
}

#[test]
fn each_call_that_fails_while_opening_again_costs_nothing() {
    for call in ["create", "write", "sync", "rename", "sync_folder", "unlink"] {
        for after in 0.. {
            let temporary = folder();
            let (log, waiter) = open(options(temporary.path()), Arc::new(Faults::none()));
            let log = log.unwrap();
            let durable = work(&log, &waiter);
            log.close().unwrap();
            let faults = Arc::new(Faults::none());
            faults.fail_on(call, after);
            // A larger segment: the newest one is sealed, the files beside it are of no use, a new one is made.
            let larger = Options { segment_bytes: 16384, ..options(temporary.path()) };
            let (log, _) = open(larger, faults.clone());
            let failed = log.as_ref().err().map(|error| error.code);
            assert!(failed.is_none_or(|code| code == ErrorCode::Io));
            assert!(failed.is_none() || faults.has_failed());
            drop(log);
            check_survivors(temporary.path(), &durable);
            if failed.is_none() {
                assert!(after > 0, "the opening calls {call}");
                break;
            }
        }
    }
}
