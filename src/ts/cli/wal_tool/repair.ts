/** `wal_tool repair`: wipes a torn tail, as opening the log does. */
import { join } from 'node:path';
import { lockFolder } from '../../wal/folder_lock.js';
import { segmentName } from '../../wal/format.js';
import { NodeFiles } from '../../wal/node_files.js';
import { wipe } from '../../wal/portable_recovery.js';
import { UsageError } from './arguments.js';
import { LogFolder } from './log_folder.js';
import type { Output } from './output.js';
import type { Progress } from './progress.js';
import { Repairs } from './repairs.js';
import { type SegmentFinding, survey } from './survey.js';
import { problemText } from './verify.js';

/** Returns how many problems are left. */
export async function repair(path: string, write: boolean, output: Output, progress: Progress): Promise<number> {
  const folder = await LogFolder.open(path);
  if (!write) return mend(folder, write, output, progress);
  const lock = await lockFolder(folder.path);
  try {
    // What was seen before the lock was taken may have changed.
    return await mend(await LogFolder.open(path, { own_lock: true }), write, output, progress);
  } finally {
    await lock.release();
  }
}

async function mend(folder: LogFolder, write: boolean, output: Output, progress: Progress): Promise<number> {
  if (folder.is_mixed) {
    throw new UsageError(`${folder.path} mixes files of several logs: put each where it belongs (wal_tool verify)`);
  }
  const repairs = new Repairs();
  const found = await survey(folder, progress, (segment, record) => repairs.put(segment, record));
  const { open } = repairs.part(found.problems);
  const damage = open.filter(({ kind }) => kind === 'corruption');
  const torn = found.segments.find(({ torn_bytes }) => torn_bytes > 0);
  for (const note of found.notes) await output.line(`note: ${note}`);
  for (const problem of damage) await output.line(`stays as it is: ${problemText(problem)}`);
  if (torn === undefined) {
    await output.line('no torn tail: there is nothing to wipe');
    return damage.length;
  }
  const place = `${torn.torn_bytes} bytes of ${segmentName(torn.id)} from offset ${torn.end} on`;
  if (!write) {
    await output.line(folder.holder === null ? `would wipe ${place}: add --write` : `being written: ${place}`);
    return open.length;
  }
  await wipeTail(folder, torn);
  await output.line(`wiped ${place}`);
  return damage.length;
}

async function wipeTail(folder: LogFolder, { id, end, torn_bytes }: SegmentFinding): Promise<void> {
  const file = await new NodeFiles().open(join(folder.path, segmentName(id)));
  try {
    await wipe(file, end, torn_bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}
