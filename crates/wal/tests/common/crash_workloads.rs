//! The scripts whose every call is a moment for a crash.

use super::crash_ledger::Violation;
use super::crash_world::{Wanted, World, want_entry, want_state};
use super::sim_files::Freeze;

pub struct Workload {
    pub name: &'static str,
    pub segment_bytes: u32,
    pub run: fn(&mut World) -> Result<(), Violation>,
    /// Calls that it must have led to, so that it is known to do what its name says.
    pub calls: &'static [&'static str],
}

const STATE_BYTES: usize = 24;

fn state(group: u32, slot: u64) -> Wanted {
    want_state(group, slot, STATE_BYTES)
}

fn begin(world: &World, wanted: &[Wanted]) -> Result<usize, Violation> {
    world.begin_append(wanted).map_err(|error| error.to_string())
}

/// Small and large appends, alone and many at once, of one record and of several, with states.
fn appends(world: &mut World) -> Result<(), Violation> {
    world.open()?;
    world.append(&[state(1, 0)])?;
    world.append(&[want_entry(1, 1, 30)])?;
    world.append(&[want_entry(1, 2, 3000), state(1, 0), want_entry(2, 1, 700)])?;
    for number in 1..=4 {
        begin(world, &[want_entry(3, number, 100 * number as usize), state(3, 0)])?;
    }
    begin(world, &[])?;
    world.append(&[want_entry(3, 2, 900), want_entry(3, 5, 50)])?;
    world.pass_time();
    let first = begin(world, &[want_entry(4, 1, 1500), state(4, 1), state(4, 2)])?;
    let second = begin(world, &[want_entry(4, 2, 600), want_entry(4, 3, 600)])?;
    world.wait_for(first)?;
    world.append(&[want_state(1, 0, 500)])?;
    world.wait_for(second)?;
    world.settle()?;
    world.append(&[want_entry(1, 3, 2000), want_entry(1, 4, 2000), state(1, 0)])?;
    world.close()?;
    world.open()?;
    world.append(&[want_entry(1, 5, 40), state(1, 0)])?;
    world.close()
}

/// Segment after segment; what is truncated gives its file to a later one.
fn rotate(world: &mut World) -> Result<(), Violation> {
    world.open()?;
    for instance in 1..=14 {
        let bytes = 900 + 150 * (instance % 4) as usize;
        let appended = begin(world, &[want_entry(1, instance, bytes), state(1, 0)])?;
        if instance % 3 != 0 {
            world.wait_for(appended)?;
        }
        if instance % 4 == 0 {
            world.truncate(1, instance - 2);
        }
        if instance % 5 == 0 {
            world.pass_time();
        }
        if instance == 9 {
            world.settle()?;
        }
        if instance % 3 == 0 {
            world.append(&[want_entry(2, instance, 1700)])?;
        }
        if instance == 10 {
            world.truncate(2, 9);
        }
    }
    world.settle()?;
    world.truncate(2, 1000);
    world.truncate(1, 14);
    world.settle()?;
    for instance in 15..=20 {
        world.append(&[want_entry(1, instance, 1600)])?;
    }
    world.close()
}

/// Few records live in each segment: they are moved while appends supersede some of them.
fn compact(world: &mut World) -> Result<(), Violation> {
    world.open()?;
    for round in 1..=6 {
        let first = begin(world, &[want_entry(1, round, 300), state(1, round % 3)])?;
        let mut last = first;
        for number in 0..3 {
            last = begin(world, &[want_entry(2, 10 * round + number, 1000), state(2, 0)])?;
        }
        world.wait_for(first)?;
        world.truncate(2, 10 * round);
        // Also of what is just being moved.
        if round > 2 {
            last = begin(world, &[want_entry(1, round - 2, 200), state(1, (round + 1) % 3)])?;
        }
        if round % 2 == 0 {
            world.wait_for(last)?;
        }
        if round == 4 {
            world.pass_time();
        }
        if round == 5 {
            world.settle()?;
        }
    }
    world.settle()?;
    world.truncate(1, 4);
    world.append(&[want_entry(1, 5, 250), state(2, 0)])?;
    world.settle()?;
    assert!(world.log().stats().rewritten_bytes > 0, "records were moved");
    world.close()
}

const CHUNKS: u32 = 1000;

/// Snapshots of a state machine: chunks, then the state that names them, and only then the old ones and the log go.
fn snapshot(world: &mut World) -> Result<(), Violation> {
    world.open()?;
    let mut instance = 0;
    for taken in 1..=3 {
        for _ in 0..4 {
            instance += 1;
            begin(world, &[want_entry(1, instance, 400), state(1, 0)])?;
        }
        let through = instance;
        let mut chunks = 0;
        for chunk in 0..3 {
            chunks = begin(world, &[want_entry(CHUNKS, 100 * taken + chunk, 1300)])?;
        }
        // The log goes on meanwhile.
        instance += 1;
        let last = begin(world, &[want_entry(1, instance, 200)])?;
        world.wait_for(chunks)?;
        world.append(&[want_state(1, 5, 100)])?;
        world.truncate(CHUNKS, 100 * taken);
        world.truncate(1, through);
        world.wait_for(last)?;
        if taken == 2 {
            world.pass_time();
        }
    }
    world.settle()?;
    world.close()
}

/// Lives that end by a kill, with unfinished batches, removals and spares; each is followed by a recovery.
fn recover(world: &mut World) -> Result<(), Violation> {
    world.freeze(Freeze::At("Write marks.new"));
    assert!(world.try_open().is_err(), "the world stands still");
    world.kill();
    for life in 1..=5 {
        world.open()?;
        world.append(&[want_entry(1, 10 * life, 900), state(1, 0)])?;
        world.freeze(Freeze::After(1 + (3 * life + 7 * world.seed()) % 23));
        if life % 2 == 0 {
            world.truncate(1, 10 * (life - 1));
        }
        // What is refused came after the stop.
        let _ = world.begin_append(&[want_entry(1, 10 * life + 1, 1200), want_entry(2, life, 300), state(1, 0)]);
        let _ = world.begin_append(&[want_entry(1, 10 * life + 2, 1000)]);
        world.settle()?;
        world.kill();
    }
    world.open()?;
    world.append(&[state(1, 0)])?;
    world.settle()?;
    world.close()
}

pub const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "append",
        segment_bytes: 16 * 1024,
        run: appends,
        calls: &["Create .seg.new", "Rename .seg.new", "Write .seg.new", "Write marks", "SyncFolder "],
    },
    Workload {
        name: "rotate",
        segment_bytes: 8 * 1024,
        run: rotate,
        calls: &["Create .seg.new", "Rename .seg.new", "Rename .seg", "Rename .seg.old", "Unlink .seg", "Write marks"],
    },
    Workload {
        name: "compact",
        segment_bytes: 8 * 1024,
        run: compact,
        calls: &["Create .seg.new", "Rename .seg.new", "Rename .seg", "Rename .seg.old", "Write marks"],
    },
    Workload {
        name: "snapshot",
        segment_bytes: 8 * 1024,
        run: snapshot,
        calls: &["Create .seg.new", "Rename .seg.new", "Rename .seg", "Rename .seg.old", "Write marks"],
    },
    Workload {
        name: "recover",
        segment_bytes: 8 * 1024,
        run: recover,
        calls: &["Create .seg.new", "Rename .seg.new", "Write .seg.new", "Unlink marks.new", "Write marks"],
    },
];
