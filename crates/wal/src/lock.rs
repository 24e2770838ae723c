//! One process at a time in a folder, by the scheme of `src/ts/wal/folder_lock.ts`: the holder listens on a Unix socket
//! in the folder. Each claimant binds a name of its own first and looks at the others afterwards.

use crate::error::{ErrorCode, LogError, Result};
use crate::format::hex;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A Unix socket's path may have 107 bytes at most; a longer one goes by way of the folder's descriptor.
const SOCKET_PATH_BYTES_MAX: usize = 100;
const NAME_RANDOM_BYTES: usize = 8;

fn is_lock_name(name: &str) -> bool {
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let digits = name.strip_prefix("lock-").unwrap_or("");
    digits.len() == 2 * NAME_RANDOM_BYTES && digits.bytes().all(is_digit)
}

/// The folder is this holder's until the lock is dropped.
pub(crate) struct FolderLock {
    name: String,
    path: PathBuf,
    released: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
    /// A path by its descriptor holds where the folder was moved, or where its own path is too long.
    folder: File,
}

impl FolderLock {
    /// Takes the folder; an error (Locked) while another holder lives, in this process or another one.
    pub fn take(folder: &Path) -> Result<FolderLock> {
        let failed = |error: io::Error| LogError::io(&format!("cannot lock {}", folder.display()), &error);
        let handle = File::open(folder).map_err(failed)?;
        let name = format!("lock-{}", hex(&random_bytes().map_err(failed)?));
        let listener = UnixListener::bind(socket_path(folder, &handle, &name)).map_err(failed)?;
        let released = Arc::new(AtomicBool::new(false));
        let path = folder.join(&name);
        // From here on dropping it takes everything back.
        let mut lock = FolderLock { name, path, released, listening: None, folder: handle };
        lock.listening = Some(answer(listener, Arc::clone(&lock.released)).map_err(failed)?);
        for other in lock_names(folder).map_err(failed)? {
            if other == lock.name {
                continue;
            }
            if answers(&socket_path(folder, &lock.folder, &other)) {
                let message = format!("{} is in use by another process (its lock is {other})", folder.display());
                return Err(LogError::new(ErrorCode::Locked, message));
            }
            match std::fs::remove_file(folder.join(other)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // A claimant that looked before this one listened may have taken its socket for a leftover.
        if std::fs::symlink_metadata(&lock.path).is_err() {
            let message = format!("{} is being opened by another process", folder.display());
            return Err(LogError::new(ErrorCode::Locked, message));
        }
        Ok(lock)
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        self.released.store(true, Ordering::Release);
        // Wakes the listening thread. Where another claimant has removed the socket, nobody can: the thread stays
        // behind and holds nothing but a name that is gone.
        let paths = [self.path.clone(), descriptor_path(&self.folder, &self.name)];
        let woken = paths.iter().any(|path| UnixStream::connect(path).is_ok());
        if let Some(thread) = self.listening.take().filter(|_| woken) {
            // It has nothing to report, and a panic in it leaves nothing held.
            let _ = thread.join();
        }
        for path in paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn socket_path(folder: &Path, handle: &File, name: &str) -> PathBuf {
    let path = folder.join(name);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return path;
    }
    descriptor_path(handle, name)
}

fn descriptor_path(handle: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
}

fn random_bytes() -> io::Result<[u8; NAME_RANDOM_BYTES]> {
    let mut bytes = [0; NAME_RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn lock_names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(folder)? {
        let name = item?.file_name().into_string().unwrap_or_default();
        if is_lock_name(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Accepts and drops connections, so that those who ask are answered without end.
fn answer(listener: UnixListener, released: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    let listen = move || {
        for _ in listener.incoming() {
            if released.load(Ordering::Acquire) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("wal-lock".into()).stack_size(64 * 1024).spawn(listen)
}

/// Only a refused connection or a missing file says that nobody holds the lock.
fn answers(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
    }
}
