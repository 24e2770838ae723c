/**
 * Mistakes of a file layer, or of an engine in its order of calls, put between the engine and a simulated disk: an exploration of
 * crashes that does not find them proves nothing about the engine that it passes.
 */
import { basename } from 'node:path';
import type { LogFile, LogFiles } from '../../src/ts/wal/files.js';
import { MARKS_NAME } from '../../src/ts/wal/marks.js';

/** Changes of calls; what is not named works. */
interface Changes {
  readonly sync?: (name: string, sync: () => Promise<void>) => Promise<void>;
  readonly write?: (name: string, write: () => Promise<void>, buffers: readonly Uint8Array[]) => Promise<void>;
  readonly list?: () => void;
  readonly rename?: (from: string, to: string, rename: () => Promise<void>) => Promise<void>;
  readonly syncFolder?: (syncFolder: () => Promise<void>) => Promise<void>;
}

export interface BrokenFiles {
  readonly name: string;
  /** Whether the files are broken in the workload, or in the process that comes after the crash. */
  readonly when: 'before' | 'after';
  readonly wrap: (files: LogFiles) => LogFiles;
}

function changed(files: LogFiles, changes: Changes): LogFiles {
  /** Names that open files go by now: a handle outlives a rename. */
  const handles = new Set<{ name: string }>();
  const wrapFile = (name: string, file: LogFile): LogFile => {
    const handle = { name };
    handles.add(handle);
    return {
      size: () => file.size(),
      read: (target, position) => file.read(target, position),
      close: () => file.close(),
      write: (buffers, position) => {
        const write = (): Promise<void> => file.write(buffers, position);
        return changes.write?.(handle.name, write, buffers) ?? write();
      },
      sync: () => changes.sync?.(handle.name, () => file.sync()) ?? file.sync(),
    };
  };
  return {
    makeFolder: (folder) => files.makeFolder(folder),
    lockFolder: (folder) => files.lockFolder(folder),
    list: (folder) => {
      changes.list?.();
      return files.list(folder);
    },
    open: async (path) => wrapFile(basename(path), await files.open(path)),
    create: async (path) => wrapFile(basename(path), await files.create(path)),
    rename: async (from, to) => {
      const rename = (): Promise<void> => files.rename(from, to);
      await (changes.rename?.(basename(from), basename(to), rename) ?? rename());
      for (const handle of handles) if (handle.name === basename(from)) handle.name = basename(to);
    },
    unlink: (path) => files.unlink(path),
    syncFolder: (folder) => changes.syncFolder?.(() => files.syncFolder(folder)) ?? files.syncFolder(folder),
  };
}

async function nothing(): Promise<void> {}

/** What is written to the marks waits for the next sync of the folder. */
function marksAfterRemoval(files: LogFiles): LogFiles {
  let held: (() => Promise<void>)[] = [];
  const hold = (name: string, call: () => Promise<void>): Promise<void> => {
    if (name !== MARKS_NAME) return call();
    held.push(call);
    return nothing();
  };
  return changed(files, {
    write: hold,
    sync: hold,
    syncFolder: async (syncFolder) => {
      await syncFolder();
      const calls = held;
      held = [];
      for (const call of calls) await call();
    },
  });
}

function spareTakenWithoutSync(files: LogFiles): LogFiles {
  let taken = false;
  return changed(files, {
    rename: async (from, to, rename) => {
      await rename();
      taken = from.endsWith('.seg.new') && to.endsWith('.seg');
    },
    syncFolder: (syncFolder) => {
      const skip = taken;
      taken = false;
      return skip ? nothing() : syncFolder();
    },
  });
}

const isSegment = (name: string): boolean => name.endsWith('.seg');

const isZero = (buffers: readonly Uint8Array[]): boolean => buffers.every((bytes) => bytes.every((byte) => byte === 0));

/** Until a recovery has written the marks of what it found no segment is synced. */
function recoveryWithoutSync(files: LogFiles): LogFiles {
  let marks_to_come = 0;
  return changed(files, {
    list: () => {
      marks_to_come = 2;
    },
    sync: (name, sync) => {
      if (name === MARKS_NAME) marks_to_come--;
      return marks_to_come > 0 && isSegment(name) ? nothing() : sync();
    },
  });
}

export const BROKEN_FILES: readonly BrokenFiles[] = [
  { name: 'a sync that does nothing', when: 'before', wrap: (files) => changed(files, { sync: nothing }) },
  { name: 'a folder sync that does nothing', when: 'before', wrap: (files) => changed(files, { syncFolder: nothing }) },
  {
    name: 'done is called before the sync returns',
    when: 'before',
    wrap: (files) =>
      changed(files, {
        sync: async (name, sync) => {
          const synced = sync();
          if (!isSegment(name)) await synced;
        },
      }),
  },
  { name: 'marks are written after the removal of segments', when: 'before', wrap: marksAfterRemoval },
  { name: 'a spare is taken without a sync of the folder', when: 'before', wrap: spareTakenWithoutSync },
  {
    name: 'a spare is not synced before it is taken',
    when: 'before',
    wrap: (files) => changed(files, { sync: (name, sync) => (name.endsWith('.seg.new') ? nothing() : sync()) }),
  },
  {
    name: 'marks are not synced',
    when: 'before',
    wrap: (files) => changed(files, { sync: (name, sync) => (name === MARKS_NAME ? nothing() : sync()) }),
  },
  { name: 'what a recovery has read is not synced', when: 'before', wrap: recoveryWithoutSync },
  {
    name: 'a torn tail is not wiped',
    when: 'after',
    wrap: (files) =>
      changed(files, {
        write: (name, write, buffers) => (isSegment(name) && isZero(buffers) ? nothing() : write()),
      }),
  },
];
