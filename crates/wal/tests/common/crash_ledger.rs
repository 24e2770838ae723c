//! What was asked of a log, and hence what may be found in it after a crash: the appends up to some moment, which is
//! not before the last one that was reported durable. Of truncated entries nothing is promised, but that their bodies
//! are true.

use phxqueue_wal::engine::Log;
use phxqueue_wal::format::{KIND_ENTRY, KIND_STATE};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What must never be found, and the way to it.
pub type Violation = String;

/// A record that was appended.
#[derive(Clone)]
pub struct Written {
    pub kind: u8,
    pub group: u32,
    pub instance: u64,
    pub body: Vec<u8>,
}

impl Written {
    fn key(&self) -> RecordKey {
        (self.kind, self.group, self.instance)
    }
}

/// Kind, group, instance or slot.
type RecordKey = (u8, u32, u64);

/// Bodies by key, as a log gives them.
type Found = BTreeMap<RecordKey, Vec<u8>>;

#[derive(Clone)]
struct Truncation {
    group: u32,
    before: u64,
    /// Number of appends that were asked for earlier.
    after: usize,
}

#[derive(Clone, Default)]
pub struct Ledger {
    appends: Vec<Arc<Vec<Written>>>,
    truncations: Vec<Truncation>,
    /// The first so many appends are durable.
    pub durable: usize,
    /// Appends in all lives: their bodies differ.
    serial: usize,
}

impl Ledger {
    /// How many appends were asked for.
    pub fn appends(&self) -> usize {
        self.appends.len()
    }

    pub fn truncations(&self) -> usize {
        self.truncations.len()
    }

    /// A number that no append had before.
    pub fn next_serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    /// Returns the number of the append.
    pub fn append(&mut self, records: Vec<Written>) -> usize {
        self.appends.push(Arc::new(records));
        self.appends.len() - 1
    }

    /// The last append was not taken.
    pub fn refused(&mut self) {
        self.appends.pop();
    }

    pub fn truncate(&mut self, group: u32, before: u64) {
        self.truncations.push(Truncation { group, before, after: self.appends.len() });
    }

    /// The log was opened again and holds the first `count` appends: the others never come back.
    pub fn reopened(&mut self, count: usize) {
        self.appends.truncate(count);
        self.durable = count;
        self.truncations.iter_mut().for_each(|each| each.after = each.after.min(count));
    }

    /// Checks everything in the log; returns how many appends it holds.
    pub fn check(&self, log: &Log) -> Result<usize, Violation> {
        let found = self.read_all(log)?;
        let mut versions: BTreeMap<RecordKey, Vec<(usize, &[u8])>> = BTreeMap::new();
        for (append, records) in self.appends.iter().enumerate() {
            for record in records.iter() {
                versions.entry(record.key()).or_default().push((append, &record.body));
            }
        }
        let mut held = self.durable;
        for (key, body) in &found {
            let version = versions.get(key).and_then(|all| all.iter().find(|(_, each)| each == body));
            let Some((append, _)) = version else {
                return Err(format!("{key:?} was never appended with {} bytes {}", body.len(), excerpt(body)));
            };
            held = held.max(append + 1);
        }
        for (key, all) in &versions {
            let Some((append, expected)) = all.iter().rfind(|(append, _)| *append < held) else { continue };
            let body = found.get(key);
            if body.is_some_and(|body| body == expected) || self.is_truncated(*key, *append) {
                continue;
            }
            let why =
                if *append < self.durable { "durable".into() } else { format!("held, as append {} is", held - 1) };
            let instead = body.map_or("missing".into(), |body| format!("found as {}", excerpt(body)));
            return Err(format!("{key:?} of append {append} is {why}, and it is {instead}"));
        }
        Ok(held)
    }

    /// Everything in the log under the groups and slots that were ever used.
    fn read_all(&self, log: &Log) -> Result<Found, Violation> {
        let mut found = Found::new();
        for group in log.groups() {
            let plan = log.plan_read(group, 0, u64::MAX, u64::MAX);
            let entries = plan.and_then(|plan| plan.read()).map_err(|error| error.to_string())?;
            for (instance, start, length) in entries.places {
                found.insert((KIND_ENTRY, group, instance), entries.bytes[start..start + length].to_vec());
            }
        }
        for record in self.appends.iter().flat_map(|records| records.iter()) {
            if record.kind == KIND_STATE {
                let body = log.state(record.group, record.instance).map_err(|error| error.to_string())?;
                found.extend(body.map(|body| (record.key(), body)));
            }
        }
        Ok(found)
    }

    fn is_truncated(&self, (kind, group, instance): RecordKey, append: usize) -> bool {
        let covers = |each: &Truncation| each.group == group && instance < each.before && append < each.after;
        kind == KIND_ENTRY && self.truncations.iter().any(covers)
    }
}

fn excerpt(body: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&body[..body.len().min(12)]))
}
