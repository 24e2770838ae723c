import { PhxError } from '../errors.js';

/**
 * The file operations that the portable engine stands on. A simulator puts its own disk here; `node_files.ts` is the
 * real one. All errors are the implementation's own (an Error with `code` on Node); the engine wraps them.
 */
export interface LogFiles {
  /** Makes the folder if it is missing (not its parent) and makes the new name durable. */
  makeFolder(folder: string): Promise<void>;

  /** Takes the folder for this process. Rejects with PhxError LOG_LOCKED while another holder lives. */
  lockFolder(folder: string): Promise<FolderLock>;

  /** Names of the files in the folder, in any order. */
  list(folder: string): Promise<string[]>;

  /** Opens an existing file to read and write. */
  open(path: string): Promise<LogFile>;

  /** Makes an empty file and opens it to read and write; replaces one that exists. */
  create(path: string): Promise<LogFile>;

  /** Renames within one folder. Durable after `syncFolder`. */
  rename(from: string, to: string): Promise<void>;

  /** Removes a file. Durable after `syncFolder`. A handle that is open stays readable. */
  unlink(path: string): Promise<void>;

  /** Makes creations, renames and removals in the folder durable. */
  syncFolder(folder: string): Promise<void>;
}

export interface FolderLock {
  release(): Promise<void>;
}

export interface LogFile {
  size(): Promise<number>;

  /** Fills `target` from `position` on; returns the bytes read, fewer only at the end of the file. */
  read(target: Uint8Array, position: number): Promise<number>;

  /** Writes the buffers one after the other at `position`, all of them; grows the file as needed. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;

  /** Makes what was written durable, and the size as far as it is needed to read it (fdatasync). */
  sync(): Promise<void>;

  close(): Promise<void>;
}

/** Whether the disk is full, the quota exhausted, or no descriptor left: that passes, other errors do not. */
export function isLackOfSpace(error: unknown): boolean {
  return hasCode(error, ['ENOSPC', 'EDQUOT']) || isLackOfDescriptors(error);
}

/** Whether the process, or the machine, has as many files open as it may. */
export function isLackOfDescriptors(error: unknown): boolean {
  return hasCode(error, ['EMFILE', 'ENFILE']);
}

function hasCode(error: unknown, codes: readonly string[]): boolean {
  if (!(error instanceof Error) || error instanceof PhxError || !('code' in error)) return false;
  return typeof error.code === 'string' && codes.includes(error.code);
}
