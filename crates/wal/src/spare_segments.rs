//! Segment files beside the log: the spare, which the log goes on in when the newest segment is full, and retired ones,
//! which were removed from the log and become spares. A spare has its full size and consists of blocks that were
//! written before: to write over such blocks is faster than to grow a file, and cannot fail for lack of space.
//!
//! What there is stands in `SpareSegments`, under the log's mutex; the work on files is done without it.

use crate::error::{LogError, Result};
use crate::files::{Folder, LogFile, LogFiles};
use crate::format::{
    FORMAT_VERSION, Identity, SEGMENT_HEADER_BYTES, check_segment_header, encode_segment_header, retired_segment_name,
    segment_name, segment_of_retired_name, segment_of_spare_name, spare_segment_name,
};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Retired files that are kept.
const RETIRED_MAX: usize = 2;
const FILL_BYTES: u64 = 1024 * 1024;
const FILL_SYNC_BYTES: u64 = 4 * 1024 * 1024;

static ZEROS: [u8; FILL_BYTES as usize] = [0; FILL_BYTES as usize];

/// A prepared segment.
#[derive(Clone)]
pub(crate) struct Spare {
    pub id: u32,
    pub file: Arc<dyn LogFile>,
}

/// The files that there are.
#[derive(Default)]
pub(crate) struct SpareSegments {
    pub spare: Option<Spare>,
    /// Ids in the names of the retired files.
    pub retired: VecDeque<u32>,
}

impl SpareSegments {
    pub fn has(&self, id: u32) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.id == id)
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.retired.len() + usize::from(self.spare.is_some())
    }

    /// Whether the file of a segment that is no longer part of the log can be kept.
    pub fn takes(&self) -> bool {
        self.retired.len() < RETIRED_MAX
    }
}

/// What is done with them.
pub(crate) struct SpareWork<'a> {
    pub files: &'a dyn LogFiles,
    pub folder: &'a Folder,
    pub identity: &'a Identity,
    pub segment_bytes: u32,
}

impl SpareWork<'_> {
    /// Takes over what a former process left: a sound spare for `next`, retired files. Removes what is of no use.
    pub fn adopt(&self, names: &[String], next: u32) -> Result<SpareSegments> {
        let mut spares = SpareSegments::default();
        for name in names {
            let failed = |error: io::Error| LogError::io(&format!("cannot take over {name}"), &error);
            if let Some(id) = segment_of_spare_name(name) {
                spares.spare = if id == next { self.adopt_spare(name, id)? } else { None }.or(spares.spare);
                if !spares.has(id) {
                    self.files.unlink(&self.path(name.clone())).map_err(failed)?;
                }
            }
            if let Some(id) = segment_of_retired_name(name) {
                if spares.takes() && self.is_usable(name).map_err(failed)? {
                    spares.retired.push_back(id);
                } else {
                    self.files.unlink(&self.path(name.clone())).map_err(failed)?;
                }
            }
        }
        Ok(spares)
    }

    /// Gives a retired file the name of the spare for the segment `id`. Its blocks stay where they are.
    pub fn reuse(&self, retired: u32, id: u32) -> io::Result<Arc<dyn LogFile>> {
        let path = self.path(retired_segment_name(retired));
        let file = self.files.open(&path)?;
        self.files.rename(&path, &self.path(spare_segment_name(id)))?;
        Ok(file)
    }

    /// Makes the spare for the segment `id`, of the file that was `reused` if there is one. After an error nothing is
    /// left behind.
    pub fn prepare(&self, id: u32, reused: Option<Arc<dyn LogFile>>) -> io::Result<Spare> {
        let path = self.path(spare_segment_name(id));
        let is_new = reused.is_none();
        let file = reused.map_or_else(|| self.files.create(&path), Ok)?;
        let header = encode_segment_header(self.identity, id, self.segment_bytes);
        let filled = if is_new { self.fill(file.as_ref()) } else { Ok(()) };
        match filled.and_then(|()| file.write(&header, 0)).and_then(|()| file.sync()) {
            Ok(()) => Ok(Spare { id, file }),
            Err(error) => {
                drop(file);
                self.files.unlink(&path)?;
                Err(error)
            }
        }
    }

    /// Makes the spare for the segment `id`, of a retired file if there is one.
    pub fn make(&self, id: u32, spares: &mut SpareSegments) -> io::Result<()> {
        let reused = spares.retired.front().map(|retired| self.reuse(*retired, id)).transpose()?;
        spares.retired.pop_front();
        spares.spare = Some(self.prepare(id, reused)?);
        Ok(())
    }

    /// Makes the spare a segment of the log under its name; durable when this returns.
    pub fn take(&self, id: u32) -> io::Result<()> {
        self.files.rename(&self.path(spare_segment_name(id)), &self.path(segment_name(id)))?;
        self.files.sync_folder(self.folder)
    }

    /// Takes the file of a segment that is no longer part of the log if it is to be `kept`, or removes it. Not durable.
    pub fn retire(&self, id: u32, kept: bool) -> io::Result<()> {
        let path = self.path(segment_name(id));
        if kept { self.files.rename(&path, &self.path(retired_segment_name(id))) } else { self.files.unlink(&path) }
    }

    fn path(&self, name: String) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes all blocks.
    fn fill(&self, file: &dyn LogFile) -> io::Result<()> {
        let segment_bytes = u64::from(self.segment_bytes);
        let mut at = 0;
        while at < segment_bytes {
            let bytes = FILL_BYTES.min(segment_bytes - at);
            file.write(&ZEROS[..bytes as usize], at)?;
            at += bytes;
            if at % FILL_SYNC_BYTES == 0 || at == segment_bytes {
                file.sync()?;
            }
        }
        Ok(())
    }

    fn adopt_spare(&self, name: &str, id: u32) -> Result<Option<Spare>> {
        let failed = |error: io::Error| LogError::io(&format!("cannot take over {name}"), &error);
        let file = self.files.open(&self.path(name.into())).map_err(failed)?;
        if file.size().map_err(failed)? != u64::from(self.segment_bytes) {
            return Ok(None);
        }
        let mut block = [0; SEGMENT_HEADER_BYTES as usize];
        file.read(&mut block, 0).map_err(failed)?;
        let header = check_segment_header(&block, self.identity, id)?;
        let alike = |version, segment_bytes| version == FORMAT_VERSION && segment_bytes == self.segment_bytes;
        if !header.is_some_and(|header| alike(header.version, header.segment_bytes)) {
            return Ok(None);
        }
        // It may have been read from memory whose sync never came, or failed.
        file.write(&block, 0).and_then(|()| file.sync()).map_err(failed)?;
        Ok(Some(Spare { id, file }))
    }

    fn is_usable(&self, name: &str) -> io::Result<bool> {
        let file = self.files.open(&self.path(name.into()))?;
        Ok(file.size()? == u64::from(self.segment_bytes))
    }
}
