//! Goal: whatever call fails, nothing that was reported durable is lost, nothing is reported that is not durable, and
//! nothing is written after the failure. Method: the engine on files that fail once, at each call of one workload; the
//! same on a simulated disk, of which then a part is lost.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::crash_images::{image_of, sampled_choices};
use common::crash_ledger::{Ledger, Violation};
use common::crash_world::{LockFolder, World, WorldOptions, want_entry, want_state};
use common::random::Random;
use common::sim_disk::SimDisk;
use common::sim_files::{Call, CallKind, Fault};
use common::{Faults, Waiter, body, entry, folder, open, options, state};
use phxqueue_wal::engine::{Log, Options, Record};
use phxqueue_wal::error::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
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
    waiter.settle(&log);
    faults.fail_on("sync", 0);
    let large = vec![7; 3000];
    let large: &[&[u8]] = &[&large];
    for instance in 0..5 {
        // The failure may come before the last of them.
        let appended = log.append(&[Record { kind: 1, group: 1, instance, body: large }]);
        assert!(appended.is_ok() || appended.is_err_and(|error| error.code == ErrorCode::Poisoned));
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

/// So many calls of each kind fail, one in each run.
const OCCURRENCES: u64 = 50;
/// So many threads share them.
const LANES: u64 = 3;
/// Errors that a caller may be told.
const TOLD: [&str; 4] = ["LOG_POISONED", "LOG_IO", "LOG_FULL", "LOG_CORRUPT"];

/// Kind of the call, error, and bytes of a write that get there.
type Failing = (CallKind, ErrorKind, usize);

fn all_failing() -> Vec<Failing> {
    let other = ErrorKind::Other;
    let mut all = vec![(CallKind::List, other, 0), (CallKind::Open, other, 0), (CallKind::Read, other, 0)];
    for error in [other, ErrorKind::StorageFull] {
        all.extend([(CallKind::Write, error, 0), (CallKind::Write, error, 700), (CallKind::Sync, error, 0)]);
        let names = [CallKind::Create, CallKind::Rename, CallKind::Unlink, CallKind::SyncFolder];
        all.extend(names.map(|kind| (kind, error, 0)));
    }
    all
}

/// Rotations, truncations, rewriting, a close and a second opening; ends at the first error.
fn churn(world: &mut World) -> Result<(), Violation> {
    for base in [0, 100] {
        world.open()?;
        for number in 1..=12 {
            let instance = base + number;
            let mut last = world.begin_append(&[want_entry(1, instance, 1300), want_state(1, 0, 24)]);
            if number % 3 == 0 {
                last =
                    last.and_then(|_| world.begin_append(&[want_entry(2, instance, 200), want_entry(3, instance, 99)]));
            }
            world.wait_for(last.map_err(|error| error.to_string())?)?;
            // In the first life many segments die at once: more than are kept to be used again.
            if if base == 0 { number == 11 } else { number % 4 == 0 } {
                world.truncate(1, instance - 1);
            }
            if number % 5 == 0 {
                world.pass_time();
            }
            world.settle()?;
            drop(world.wait_until(|scene| !scene.low_on_space)?);
        }
        world.close()?;
    }
    Ok(())
}

/// Nothing is written any more, and what is durable can be read.
fn check_poisoned(world: &mut World) -> Result<(), Violation> {
    drop(world.wait_until(|scene| scene.failure.is_some())?);
    // Whoever is at it ends.
    let settled = world.settle();
    assert!(settled.is_err_and(|error| error.starts_with("LOG_POISONED")));
    let calls = world.scene().calls;
    let late = world.begin_append(&[want_state(5, 0, 24)]);
    assert_eq!(late.map_err(|error| error.code), Err(ErrorCode::Poisoned));
    world.check()?;
    world.close()?;
    assert_eq!(world.scene().calls, calls, "nothing is written after a failure");
    Ok(())
}

/// Which outcomes a failed call may have. `none` is for what failed beside the appends, and was met by nobody any
/// more.
fn may_have((kind, error, _): Failing, call: &Call, outcome: &str) -> bool {
    let writes = matches!(kind, CallKind::Write | CallKind::Sync);
    let makes_spare = call.name.ends_with(".seg.new") && (writes || kind == CallKind::Create);
    let renames_retired = call.name.ends_with(".seg.old") && kind == CallKind::Rename;
    if (makes_spare || renames_retired) && error == ErrorKind::StorageFull {
        return ["low on space", "LOG_IO"].contains(&outcome);
    }
    if call.name.ends_with(".seg") && writes {
        return ["LOG_POISONED", "LOG_IO"].contains(&outcome);
    }
    // Of what is read only the file of a spare, or one that becomes it, is about to be written.
    let is_beside = call.name.ends_with(".seg.new") || call.name.ends_with(".seg.old");
    let reads = kind < CallKind::Create && !is_beside;
    let failure = if reads { "LOG_CORRUPT" } else { "LOG_POISONED" };
    [failure, "LOG_IO", "none"].contains(&outcome)
}

/// Opens what is left, works on and is killed; then what was not durable is lost.
fn use_twice(disk: SimDisk, ledger: Ledger, options: WorldOptions, folder: &LockFolder) -> Result<(), Violation> {
    let mut left = (disk, ledger);
    for _ in 0..2 {
        let mut world = World::new(left.0, left.1, options, folder);
        world.open()?;
        assert_eq!(world.log().recovery().corrupt, []);
        world.append(&[want_entry(4, 1, 500)])?;
        world.settle()?;
        world.kill();
        let scene = world.scene();
        let choices = sampled_choices(&scene.disk, &mut Random::new(0), 1);
        left = (image_of(&scene.disk, &choices[0]), scene.ledger.clone());
    }
    Ok(())
}

/// Runs the workload with this failure; returns what failed and what came of it, None if there was no such call.
fn survive(failing: Failing, after: u64, folder: &LockFolder) -> Result<Option<String>, Violation> {
    let (kind, error, bytes_written) = failing;
    let options = WorldOptions { segment_bytes: 8192, seed: after, varied: true, mistake: None };
    let mut world = World::new(SimDisk::default(), Ledger::default(), options, folder);
    world.scene().fault = Some(Fault { kind, error, after, bytes_written });
    let ended = churn(&mut world);
    let told = ended.as_ref().err().and_then(|error| TOLD.into_iter().find(|code| error.starts_with(code)));
    if told.is_none() {
        ended?;
    }
    if told == Some("LOG_POISONED") {
        check_poisoned(&mut world)?;
    }
    if world.is_open() {
        // Whatever it says: it is to end.
        let _ = world.close();
    }
    let scene = world.scene();
    let Some(call) = scene.hit.clone() else { return Ok(None) };
    let (disk, ledger) = (scene.disk.clone(), scene.ledger.clone());
    let outcome = told.unwrap_or(if scene.was_low_on_space { "low on space" } else { "none" });
    drop(scene);
    assert!(may_have(failing, &call, outcome), "{call:?}: {outcome}");
    // What was written is gone, is there in part, or is still in memory.
    let options = WorldOptions { varied: false, ..options };
    for choice in sampled_choices(&disk, &mut Random::new(after), 4) {
        use_twice(image_of(&disk, &choice), ledger.clone(), options, folder)?;
    }
    use_twice(disk, ledger, options, folder)?;
    Ok(Some(format!("{error:?} in {}: {outcome}", call.what())))
}

#[test]
fn a_call_that_fails_never_leads_to_a_false_word_whatever_then_is_lost() {
    let survive_all = |failing: Failing, lane: u64| {
        let folder = LockFolder::new();
        let mut outcomes = BTreeMap::new();
        for after in (lane..OCCURRENCES).step_by(LANES as usize) {
            let survived = survive(failing, after, &folder);
            let outcome = survived.unwrap_or_else(|violation| panic!("{failing:?} at {after}: {violation}"));
            let Some(outcome) = outcome else { break };
            *outcomes.entry(outcome).or_insert(0) += 1;
        }
        assert!(lane > 0 || !outcomes.is_empty(), "the workload has calls {failing:?}");
        outcomes
    };
    // Most of them wait for space most of the time.
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let jobs = all_failing().into_iter().flat_map(|failing| (0..LANES).map(move |lane| (failing, lane)));
        let running: Vec<_> = jobs.map(|(failing, lane)| scope.spawn(move || survive_all(failing, lane))).collect();
        for (outcome, count) in running.into_iter().flat_map(|job| job.join().unwrap()) {
            *outcomes.entry(outcome).or_insert(0) += count;
        }
    });
    let seen = |outcome: &str| outcomes.keys().any(|each| each.ends_with(outcome));
    assert!(seen("LOG_POISONED") && seen("LOG_IO") && seen("low on space"));
    println!("{outcomes:#?}");
}
