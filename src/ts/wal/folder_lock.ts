/**
 * One process at a time in a folder. The holder listens on a Unix socket in it; the kernel closes the socket with the
 * process, however it ends, and across containers, so that a leftover file is told from a holder by connecting to it.
 * Each claimant binds a name of its own first and looks at the others afterwards: of two that come at once at least one
 * sees the other. Both engines do the same (crates/wal/src/lock.rs).
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { readdir, stat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { PhxError } from '../errors.js';
import type { FolderLock } from './files.js';

const LOCK_NAME = /^lock-[0-9a-f]{16}$/;

/** A Unix socket's path may have 107 bytes at most; a longer one goes by way of the folder's descriptor. */
const SOCKET_PATH_BYTES_MAX = 100;

/** Whether `name` is a lock of this scheme, held or left behind. */
export function isLockName(name: string): boolean {
  return LOCK_NAME.test(name);
}

/**
 * Takes the folder.
 *
 * @throws PhxError LOG_LOCKED while another holder lives (in this process or another one)
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const name = `lock-${randomBytes(8).toString('hex')}`;
  const folderDescriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  const socketPath = (file: string): string => socketPathOf(folder, folderDescriptor, file);
  let server: Server | null = null;
  const release = async (): Promise<void> => {
    if (server !== null) await closeServer(server);
    closeSync(folderDescriptor);
  };
  try {
    server = await listen(socketPath(name));
    for (const other of await readdir(folder)) {
      if (other === name || !isLockName(other)) continue;
      if (await answers(socketPath(other))) {
        throw new PhxError('LOG_LOCKED', `${folder} is in use by another process (its lock is ${other})`);
      }
      await unlink(join(folder, other)).catch(ignoreMissing);
    }
    // A claimant that looked before this one listened may have taken its socket for a leftover.
    await stat(join(folder, name)).catch((cause: unknown) => {
      throw new PhxError('LOG_LOCKED', `${folder} is being opened by another process`, { retryable: true, cause });
    });
  } catch (error) {
    await release();
    throw error;
  }
  return { release };
}

/** Name of the lock by which a living process holds the folder, or null. Changes nothing. */
export async function findHolder(folder: string): Promise<string | null> {
  const folderDescriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    for (const name of await readdir(folder)) {
      if (isLockName(name) && (await answers(socketPathOf(folder, folderDescriptor, name)))) return name;
    }
    return null;
  } finally {
    closeSync(folderDescriptor);
  }
}

function socketPathOf(folder: string, folderDescriptor: number, file: string): string {
  const path = join(folder, file);
  return Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX ? path : `/proc/self/fd/${folderDescriptor}/${file}`;
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}

/** Closing removes the socket's file, too. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

/** Only a refused connection or a missing file says that nobody holds the lock. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
