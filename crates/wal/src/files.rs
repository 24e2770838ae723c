//! The file operations that the engine stands on. Tests put failing ones here.

use rustix::io::ReadWriteFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The folder of a log. Once it was synced it stays open, so that no later sync lacks a descriptor.
pub struct Folder {
    path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
}

impl Folder {
    /// Names a folder.
    pub fn new(path: PathBuf) -> Folder {
        Folder { path, file: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes it if it is open.
    pub fn close(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn open(&self) -> io::Result<Arc<File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_ref() {
            return Ok(Arc::clone(file));
        }
        let opened = Arc::new(File::open(&self.path)?);
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// The files of a folder.
pub trait LogFiles: Send + Sync {
    /// Makes the folder if it is missing (not its parent) and makes the new name durable.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
    /// Names of the files in the folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Makes an empty file and opens it to read and write; replaces one that exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Renames within one folder. Durable after `sync_folder`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_folder`. A handle that is open stays readable.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in the folder durable.
    fn sync_folder(&self, folder: &Folder) -> io::Result<()>;
}

/// An open file; closed when dropped.
pub trait LogFile: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `target` from `position` on; returns the bytes read, fewer only at the end of the file.
    fn read(&self, target: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`; grows the file as needed.
    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// The same without waiting for the disk: None where not all of it is in memory, or nobody can tell.
    fn read_cached(&self, target: &mut [u8], position: u64) -> Option<()>;
    /// Makes what was written durable, and the size as far as it is needed to read it (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// The files of this machine.
pub struct RealFiles;

impl LogFiles for RealFiles {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Also for a folder that exists: whoever made it may have died before its name was durable.
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(folder)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = item?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o640);
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        folder.open()?.sync_all()
    }
}

impl LogFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < target.len() {
            match self.read_at(&mut target[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn read_cached(&self, target: &mut [u8], position: u64) -> Option<()> {
        let length = target.len();
        let mut buffers = [IoSliceMut::new(target)];
        // A part of it, or any error: the ordinary read finds out more.
        let read = rustix::io::preadv2(self, &mut buffers, position, ReadWriteFlags::NOWAIT).ok()?;
        (read == length).then_some(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
