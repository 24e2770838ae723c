//! What can go wrong, under the names that `src/ts/errors.ts` gives it.

use rustix::io::Errno;
use std::fmt;
use std::io;

/// Names an error across the binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Another holder has the folder.
    Locked,
    /// The folder belongs to another identity.
    Identity,
    /// A record that once was durable can no longer be read.
    Corrupt,
    /// Newer software wrote the log; nothing in it is damaged.
    Format,
    /// A write or sync failed; the log takes no more writes.
    Poisoned,
    /// An input/output operation failed.
    Io,
    /// The log was closed.
    Closed,
    /// The records of one append do not fit into a segment.
    SizeTooLarge,
    /// Too much waits for the disk; nothing was appended.
    FastReject,
    /// The newest segment is full, and there is no space for another; nothing was appended.
    Full,
}

impl ErrorCode {
    /// The name in TypeScript.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::Locked => "LOG_LOCKED",
            ErrorCode::Identity => "LOG_IDENTITY",
            ErrorCode::Corrupt => "LOG_CORRUPT",
            ErrorCode::Format => "LOG_FORMAT",
            ErrorCode::Poisoned => "LOG_POISONED",
            ErrorCode::Io => "LOG_IO",
            ErrorCode::Closed => "LOG_CLOSED",
            ErrorCode::SizeTooLarge => "SIZE_TOO_LARGE",
            ErrorCode::FastReject => "PROPOSE_FAST_REJECT",
            ErrorCode::Full => "LOG_FULL",
        }
    }
}

/// An operating error. Broken invariants panic instead.
#[derive(Clone, Debug)]
pub struct LogError {
    /// What the caller switches on.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl LogError {
    /// Makes an error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        LogError { code, message: message.into() }
    }

    pub(crate) fn io(what: &str, cause: &io::Error) -> Self {
        LogError::new(ErrorCode::Io, format!("{what}: {cause}"))
    }
}

/// Whether the disk is full, the quota exhausted, or no descriptor left: that passes, other errors do not.
pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    is_full || is_lack_of_descriptors(error)
}

/// Whether the process, or the machine, has as many files open as it may.
pub(crate) fn is_lack_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

impl fmt::Display for LogError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for LogError {}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, LogError>;
