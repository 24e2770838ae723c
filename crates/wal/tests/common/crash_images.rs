//! What a crash may leave of a disk: every subset of what is pending where that is little, else a random choice of
//! subsets; in each of them the last write that is kept of a file is torn at each sector, or kept in some of its
//! sectors.

use super::random::Random;
use super::sim_disk::{Inode, PendingWrite, SECTOR_BYTES, SimDisk, apply_names};
use std::collections::BTreeSet;
use std::sync::Arc;

/// With more than this pending, subsets are chosen at random.
const PENDING_ENUMERATED_MAX: usize = 6;
const RANDOM_SUBSETS: usize = 200;

/// Numbers of the writes and changes of names that are kept; and how one of the writes is torn.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    kept: BTreeSet<u64>,
    torn: Option<(u64, Sectors)>,
}

/// What is kept of a write: some of its sectors, or only the length that it gave the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sectors {
    Some(Vec<bool>),
    Length,
}

/// All choices. `random` is used only where not all subsets are taken, and for sectors.
pub fn all_choices(disk: &SimDisk, random: &mut Random) -> Vec<Choice> {
    let numbers = pending(disk);
    let mut choices = Vec::new();
    for kept in subsets(&numbers, random) {
        for inode in disk.inodes.values() {
            let Some(last) = last_kept(inode, &kept) else { continue };
            let torn = |sectors| Choice { kept: kept.clone(), torn: Some((last.number, sectors)) };
            choices.extend(tears(inode, last, random).into_iter().map(torn));
        }
        choices.push(Choice { kept, torn: None });
    }
    choices
}

/// At most `count_max` different ones of all choices, among them those in which everything and nothing is kept.
pub fn sampled_choices(disk: &SimDisk, random: &mut Random, count_max: usize) -> Vec<Choice> {
    let numbers = pending(disk);
    let mut choices = vec![Choice { kept: BTreeSet::new(), torn: None }];
    let mut add = |choice: Choice| {
        if choices.len() < count_max && !choices.contains(&choice) {
            choices.push(choice);
        }
    };
    add(Choice { kept: numbers.iter().copied().collect(), torn: None });
    let attempts = if numbers.is_empty() { 0 } else { 2 * count_max };
    for _ in 0..attempts {
        let kept = random_subset(&numbers, random);
        let last: Vec<_> = disk.inodes.values().filter_map(|inode| Some((inode, last_kept(inode, &kept)?))).collect();
        let mut torn = None;
        if !last.is_empty() && !random.percent(30) {
            let (inode, write) = last[random.below(last.len())];
            let mut ways = tears(inode, write, random);
            if !ways.is_empty() {
                torn = Some((write.number, ways.swap_remove(random.below(ways.len()))));
            }
        }
        add(Choice { kept, torn });
    }
    choices
}

/// The disk that a crash leaves.
pub fn image_of(disk: &SimDisk, choice: &Choice) -> SimDisk {
    let kept = |number: u64| choice.kept.contains(&number);
    let mut names = disk.durable_names.clone();
    let changes: Vec<_> = disk.pending_names.iter().filter(|change| kept(change.number)).cloned().collect();
    apply_names(&mut names, &changes);
    SimDisk::with_files(names.into_iter().map(|(name, inode)| {
        let Inode { durable, pending, .. } = &disk.inodes[&inode];
        let writes: Vec<&PendingWrite> = pending.iter().filter(|write| kept(write.number)).collect();
        let bytes = if writes.is_empty() { Arc::clone(durable) } else { Arc::new(written(durable, &writes, choice)) };
        (name, bytes)
    }))
}

pub fn describe(disk: &SimDisk, choice: &Choice) -> String {
    let mut parts = Vec::new();
    for (id, inode) in &disk.inodes {
        for write in inode.pending.iter().filter(|write| choice.kept.contains(&write.number)) {
            let torn = choice.torn.as_ref().filter(|(number, _)| *number == write.number);
            let how = torn.map_or_else(String::new, |(_, sectors)| format!(" ({})", describe_sectors(sectors)));
            let name = disk.name_of(*id);
            parts.push(format!("write {name} {}+{}{how}", write.position, write.bytes.len()));
        }
    }
    for change in disk.pending_names.iter().filter(|change| choice.kept.contains(&change.number)) {
        parts.push(format!("{} {}", change.change, change.name.as_deref().unwrap_or("")));
    }
    let kept = if parts.is_empty() { "nothing".into() } else { parts.join(", ") };
    format!("{} pending operations, kept: {kept}", pending(disk).len())
}

fn describe_sectors(sectors: &Sectors) -> String {
    match sectors {
        Sectors::Length => "its length only".into(),
        Sectors::Some(kept) => {
            let numbers: Vec<usize> = (0..kept.len()).filter(|sector| kept[*sector]).collect();
            format!("sectors {numbers:?} of {}", kept.len())
        }
    }
}

/// Numbers of all that is pending. Writes to files that no crash can show any more do not count.
fn pending(disk: &SimDisk) -> Vec<u64> {
    let shown: BTreeSet<u64> =
        disk.durable_names.values().copied().chain(disk.pending_names.iter().map(|change| change.inode)).collect();
    let files = disk.inodes.iter().filter(|(inode, _)| shown.contains(inode));
    let writes = files.flat_map(|(_, inode)| inode.pending.iter().map(|write| write.number));
    writes.chain(disk.pending_names.iter().map(|change| change.number)).collect()
}

fn subsets(numbers: &[u64], random: &mut Random) -> Vec<BTreeSet<u64>> {
    if numbers.len() <= PENDING_ENUMERATED_MAX {
        let subset = |bits: usize| (0..numbers.len()).filter(|at| bits >> at & 1 == 1).map(|at| numbers[at]).collect();
        return (0..1 << numbers.len()).map(subset).collect();
    }
    let mut found = vec![BTreeSet::new(), numbers.iter().copied().collect()];
    found.extend((2..RANDOM_SUBSETS).map(|_| random_subset(numbers, random)));
    found
}

fn random_subset(numbers: &[u64], random: &mut Random) -> BTreeSet<u64> {
    numbers.iter().copied().filter(|_| random.percent(50)).collect()
}

fn last_kept<'a>(inode: &'a Inode, kept: &BTreeSet<u64>) -> Option<&'a PendingWrite> {
    inode.pending.iter().rfind(|write| kept.contains(&write.number))
}

/// The ways in which a write is kept in part.
fn tears(inode: &Inode, write: &PendingWrite, random: &mut Random) -> Vec<Sectors> {
    let sectors = write.end().div_ceil(SECTOR_BYTES) - write.position / SECTOR_BYTES;
    let mut ways = Vec::new();
    if write.end() > inode.durable.len() {
        ways.push(Sectors::Length);
    }
    if sectors > 1 {
        ways.extend((1..sectors).map(|cut| Sectors::Some((0..sectors).map(|sector| sector < cut).collect())));
        ways.push(Sectors::Some((0..sectors).map(|sector| sector == sectors - 1).collect()));
        ways.push(Sectors::Some((0..sectors).map(|_| random.percent(50)).collect()));
    }
    ways
}

fn written(durable: &[u8], writes: &[&PendingWrite], choice: &Choice) -> Vec<u8> {
    let mut result = durable.to_vec();
    for write in writes {
        let torn = choice.torn.as_ref().filter(|(number, _)| *number == write.number);
        let first = write.position / SECTOR_BYTES;
        let mut at = write.position;
        while at < write.end() {
            let sector = at / SECTOR_BYTES;
            let next = ((sector + 1) * SECTOR_BYTES).min(write.end());
            let kept = match torn {
                None => true,
                Some((_, Sectors::Length)) => false,
                Some((_, Sectors::Some(kept))) => kept[sector - first],
            };
            if kept {
                super::sim_disk::put(&mut result, &write.bytes[at - write.position..next - write.position], at);
            }
            at = next;
        }
        if matches!(torn, Some((_, Sectors::Length))) {
            result.resize(result.len().max(write.end()), 0);
        }
    }
    result
}
