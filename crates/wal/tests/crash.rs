//! Goal: wherever the power fails, what was reported durable is there, nothing is invented, and the log works on.
//! Method: five scripts on a simulated disk; at each call every subset of what is not durable survives
//! (common/sim_disk.rs has the fault model). The log has threads, so the same seed does not mean the same order of
//! calls: each run is an order of its own, in which each call is one crash. The ordinary run takes a sample of the
//! images, PHXQUEUE_TEST_FULL=1 all of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::broken_files::Mistake;
use common::crash_explorer::{Plan, explore, run_once};
use common::crash_images::{all_choices, image_of};
use common::crash_workloads::{WORKLOADS, Workload};
use common::crash_world::LockFolder;
use common::random::Random;
use common::sim_disk::SimDisk;
use std::collections::BTreeSet;
use std::time::Instant;

const SAMPLE: Plan = Plan { images_max: Some(6), second_crashes: 1, second_images_max: 2, second_crashes_every: 10 };
const ALL: Plan = Plan { images_max: None, second_crashes: 2, second_images_max: 12, second_crashes_every: 1 };
const MISTAKEN: Plan = Plan { images_max: Some(10), second_crashes: 0, second_images_max: 0, second_crashes_every: 1 };

fn is_full() -> bool {
    std::env::var_os("PHXQUEUE_TEST_FULL").is_some_and(|value| value == "1")
}

fn crash_at_each_call(workload: &Workload) {
    let (plan, seeds) = if is_full() { (ALL, 1..=3) } else { (SAMPLE, 1..=2) };
    for seed in seeds {
        let started = Instant::now();
        let explored = explore(workload, plan, seed, None).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(explored.crash_points > 20);
        for call in workload.calls {
            assert!(explored.called.contains(*call), "{}: {call} in {:?}", workload.name, explored.called);
        }
        println!(
            "{}, seed {seed}: {} calls, {} crash points, {} images; {} second crashes, {} images; {:.1} s",
            workload.name,
            explored.calls,
            explored.crash_points,
            explored.images,
            explored.second_crash_points,
            explored.second_images,
            started.elapsed().as_secs_f64(),
        );
    }
}

#[test]
fn the_disk_loses_what_was_not_synced_and_all_of_a_failed_sync() {
    let mut disk = SimDisk::default();
    let (first, second) = (disk.create("first").unwrap(), disk.create("second").unwrap());
    let named = disk.begin_sync_folder();
    disk.rename("second", "third").unwrap();
    disk.settle_folder(&named);
    disk.write(first, &[1; 1024], 0);
    let failed = disk.begin_sync(first);
    disk.doom(first, &failed);
    disk.write(first, &[2; 512], 512);
    disk.write(second, &[3; 8], 0);
    for inode in [first, second] {
        let covered = disk.begin_sync(inode);
        disk.settle(inode, &covered);
    }
    let mut found = BTreeSet::new();
    for choice in all_choices(&disk, &mut Random::new(1)) {
        let image = image_of(&disk, &choice);
        let mut bytes = vec![9; 2048];
        let length = image.read(image.find("first").unwrap(), &mut bytes, 0);
        assert_eq!((length, &bytes[512..1024], image.list().len()), (1024, &[2; 512][..], 2));
        found.insert((bytes[0], image.find("third").is_ok()));
    }
    assert_eq!(found, [(0, false), (0, true), (1, false), (1, true)].into());
}

#[test]
fn append() {
    crash_at_each_call(&WORKLOADS[0]);
}

#[test]
fn rotate() {
    crash_at_each_call(&WORKLOADS[1]);
}

#[test]
fn compact() {
    crash_at_each_call(&WORKLOADS[2]);
}

#[test]
fn snapshot() {
    crash_at_each_call(&WORKLOADS[3]);
}

#[test]
fn recover() {
    crash_at_each_call(&WORKLOADS[4]);
}

#[test]
fn each_order_of_calls_that_the_threads_may_take_ends_well() {
    let folder = LockFolder::new();
    for workload in &WORKLOADS {
        for seed in 1..=if is_full() { 1000 } else { 20 } {
            run_once(workload, seed, &folder).unwrap_or_else(|error| panic!("{}, seed {seed}: {error}", workload.name));
        }
    }
}

/// Not each order of calls has a moment in which the mistake matters. The last workload has all kinds of them.
const SEEDS_MAX: u64 = 20;

#[test]
fn mistakes_of_the_file_layer_are_found() {
    let found = ["is durable, and it is", "is held, as", "corrupt", "damaged", "torn bytes"];
    for mistake in Mistake::ALL {
        let runs = WORKLOADS.iter().rev().flat_map(|workload| (1..=SEEDS_MAX).map(move |seed| (workload, seed)));
        let outcomes = runs.map(|(workload, seed)| explore(workload, MISTAKEN, seed, Some(mistake)));
        let violation = outcomes.filter_map(Result::err).next();
        let violation = violation.unwrap_or_else(|| panic!("{mistake:?} is not found"));
        assert!(found.iter().any(|words| violation.contains(words)), "{mistake:?}: {violation}");
        println!("{mistake:?}: {violation}");
    }
}
