//! The bytes of one segment file after the other, in a buffer that is used again and again. They are read a little at a
//! time, when they are looked at: what was just read is still in the processor's cache then.

use crate::files::LogFile;
use std::io;
use std::sync::Arc;

const STEP_BYTES: usize = 256 * 1024;

/// The bytes of a file, as far as they were asked for.
#[derive(Default)]
pub(crate) struct SegmentBytes {
    file: Option<Arc<dyn LogFile>>,
    buffer: Vec<u8>,
    /// Length of the file.
    length: usize,
    filled: usize,
}

impl SegmentBytes {
    /// Turns to another file.
    pub fn turn_to(&mut self, file: Arc<dyn LogFile>) -> io::Result<()> {
        self.length = file.size()? as usize;
        self.filled = 0;
        if self.buffer.len() < self.length {
            // Fresh memory is zero without being touched.
            self.buffer = vec![0; self.length];
        }
        self.file = Some(file);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// The bytes of the file from its start to `end` at least, or to its end.
    pub fn through(&mut self, end: usize) -> io::Result<&[u8]> {
        while self.filled < end.min(self.length) {
            let step_end = (self.filled + STEP_BYTES).min(self.length);
            let step = &mut self.buffer[self.filled..step_end];
            let Some(file) = &self.file else { break };
            let read = file.read(step, self.filled as u64)?;
            self.filled += read;
            if self.filled < step_end {
                // It is being cut by somebody else: what is gone counts as gone.
                self.length = self.filled;
            }
        }
        Ok(&self.buffer[..self.filled])
    }

    /// All of them.
    pub fn all(&mut self) -> io::Result<&[u8]> {
        self.through(usize::MAX)
    }
}
