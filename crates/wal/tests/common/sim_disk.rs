//! A disk in memory, for crashes: it knows what is durable and what is merely written.
//!
//! The fault model. A write is pending until a sync of its file that was called after it has returned. Creations,
//! renames and removals are pending until a sync of the folder that was called after them has returned; a sync of a
//! file makes no name durable, one of the folder no bytes. A crash keeps any subset of what is pending, in any order
//! of loss: of a write that is kept any of its sectors of 512 bytes, new or as before, and where it made the file
//! longer the length with zeros or the old length. A name changes wholly or not at all: a rename that is kept takes
//! the file away from whatever name it had. A kill of the process loses nothing: what is pending stays readable and
//! pending. A sync that fails leaves its writes pending for ever: no later sync makes them durable, as with pages that
//! the kernel marks clean.
//!
//! Not in the model: a sector that is torn within or that a write of a neighbour damages, bytes that rot, a sync that
//! lies, truncation of a file that exists (the engine never does that), the folder itself being lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

pub const SECTOR_BYTES: usize = 512;

/// A file, whatever its name.
pub type InodeId = u64;

/// A write that is not durable.
#[derive(Clone)]
pub struct PendingWrite {
    /// Tells it from all others of its disk.
    pub number: u64,
    pub position: usize,
    pub bytes: Arc<Vec<u8>>,
    /// A sync of it has failed: none will ever make it durable.
    pub doomed: bool,
}

impl PendingWrite {
    pub fn end(&self) -> usize {
        self.position + self.bytes.len()
    }
}

/// A change of names that is not durable.
#[derive(Clone)]
pub struct PendingName {
    pub number: u64,
    pub change: &'static str,
    pub inode: InodeId,
    /// The name it has from now on; None when it is removed.
    pub name: Option<String>,
}

/// The bytes of a file.
#[derive(Clone, Default)]
pub struct Inode {
    pub durable: Arc<Vec<u8>>,
    pub pending: Vec<PendingWrite>,
    /// What a read sees.
    cache: Arc<Vec<u8>>,
}

/// Names of files.
pub type Names = BTreeMap<String, InodeId>;

/// A clone is the disk at one moment, or after the process was killed at this moment. Buffers are shared until they
/// change.
#[derive(Clone, Default)]
pub struct SimDisk {
    /// Rises with everything that changes what a crash may leave.
    pub version: u64,
    pub durable_names: Names,
    pub pending_names: Vec<PendingName>,
    /// All files that a crash may show, also removed ones.
    pub inodes: BTreeMap<InodeId, Inode>,
    /// As a process sees them.
    names: Names,
    numbers: u64,
}

impl SimDisk {
    /// A disk with these files, all durable.
    pub fn with_files(files: impl IntoIterator<Item = (String, Arc<Vec<u8>>)>) -> SimDisk {
        let mut disk = SimDisk::default();
        for (name, bytes) in files {
            let inode = disk.number();
            disk.inodes.insert(inode, Inode { durable: Arc::clone(&bytes), pending: Vec::new(), cache: bytes });
            disk.names.insert(name, inode);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    pub fn list(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub fn find(&self, name: &str) -> io::Result<InodeId> {
        self.names.get(name).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name))
    }

    /// What a file is called now, empty if it was removed.
    pub fn name_of(&self, inode: InodeId) -> String {
        self.names.iter().find(|(_, other)| **other == inode).map_or_else(String::new, |(name, _)| name.clone())
    }

    pub fn size(&self, inode: InodeId) -> u64 {
        self.inodes[&inode].cache.len() as u64
    }

    pub fn read(&self, inode: InodeId, target: &mut [u8], position: usize) -> usize {
        let rest = self.inodes[&inode].cache.get(position..).unwrap_or(&[]);
        let bytes = rest.len().min(target.len());
        target[..bytes].copy_from_slice(&rest[..bytes]);
        bytes
    }

    pub fn create(&mut self, name: &str) -> io::Result<InodeId> {
        if self.names.contains_key(name) {
            return Err(io::Error::other(format!("the model knows no truncation, and {name} exists")));
        }
        let inode = self.number();
        self.inodes.insert(inode, Inode::default());
        self.names.insert(name.into(), inode);
        self.change_name("create", inode, Some(name));
        Ok(inode)
    }

    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.find(from)?;
        self.names.remove(from);
        self.names.insert(to.into(), inode);
        self.change_name("rename", inode, Some(to));
        Ok(())
    }

    pub fn unlink(&mut self, name: &str) -> io::Result<()> {
        let inode = self.find(name)?;
        self.names.remove(name);
        self.change_name("unlink", inode, None);
        Ok(())
    }

    pub fn write(&mut self, inode: InodeId, bytes: &[u8], position: usize) {
        let number = self.number();
        let file = self.file(inode);
        put(Arc::make_mut(&mut file.cache), bytes, position);
        file.pending.push(PendingWrite { number, position, bytes: Arc::new(bytes.to_vec()), doomed: false });
        self.version += 1;
    }

    /// The writes that a sync which begins now covers.
    pub fn begin_sync(&self, inode: InodeId) -> BTreeSet<u64> {
        self.inodes[&inode].pending.iter().filter(|write| !write.doomed).map(|write| write.number).collect()
    }

    /// The sync has failed.
    pub fn doom(&mut self, inode: InodeId, covered: &BTreeSet<u64>) {
        for write in self.file(inode).pending.iter_mut().filter(|write| covered.contains(&write.number)) {
            write.doomed = true;
        }
    }

    /// The sync returns: makes these writes durable.
    pub fn settle(&mut self, inode: InodeId, covered: &BTreeSet<u64>) {
        self.version += 1;
        let file = self.file(inode);
        let (settled, pending) =
            std::mem::take(&mut file.pending).into_iter().partition(|w| covered.contains(&w.number));
        file.pending = pending;
        let settled: Vec<PendingWrite> = settled;
        for write in &settled {
            put(Arc::make_mut(&mut file.durable), &write.bytes, write.position);
            file.pending = file.pending.iter().flat_map(|each| outside(each, write)).collect();
        }
        if file.pending.is_empty() {
            file.cache = Arc::clone(&file.durable);
        }
    }

    /// The changes of names that a sync of the folder which begins now covers.
    pub fn begin_sync_folder(&self) -> BTreeSet<u64> {
        self.pending_names.iter().map(|change| change.number).collect()
    }

    /// The sync returns.
    pub fn settle_folder(&mut self, covered: &BTreeSet<u64>) {
        self.version += 1;
        let (settled, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending_names).into_iter().partition(|change| covered.contains(&change.number));
        apply_names(&mut self.durable_names, &settled);
        self.pending_names = pending;
    }

    fn file(&mut self, inode: InodeId) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("files stay")
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn change_name(&mut self, change: &'static str, inode: InodeId, name: Option<&str>) {
        let number = self.number();
        self.pending_names.push(PendingName { number, change, inode, name: name.map(Into::into) });
        self.version += 1;
    }
}

/// Changes names, in order.
pub fn apply_names(names: &mut Names, changes: &[PendingName]) {
    for PendingName { inode, name, .. } in changes {
        names.retain(|_, other| other != inode);
        if let Some(name) = name {
            names.insert(name.clone(), *inode);
        }
    }
}

/// Grows `target` with zeros where it is too short.
pub fn put(target: &mut Vec<u8>, bytes: &[u8], position: usize) {
    let end = position + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[position..end].copy_from_slice(bytes);
}

/// What is left of a pending write when `newer` was written and is durable: of one whose sync failed only what lies
/// outside.
fn outside(write: &PendingWrite, newer: &PendingWrite) -> Vec<PendingWrite> {
    let apart = newer.position >= write.end() || newer.end() <= write.position;
    if !write.doomed || apart || write.number > newer.number {
        return vec![write.clone()];
    }
    let piece = |start: usize, end: usize| {
        let bytes = Arc::new(write.bytes[start - write.position..end - write.position].to_vec());
        (start < end).then_some(PendingWrite { position: start, bytes, ..*write })
    };
    let before = piece(write.position, newer.position.max(write.position));
    let after = piece(newer.end().min(write.end()), write.end());
    before.into_iter().chain(after).collect()
}
