/** What the tests of the log share: engines, folders, records. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type LogEngine, type LogRecord, RecordKind } from '../../src/ts/wal/engine.js';
import { isLockName } from '../../src/ts/wal/folder_lock.js';
import { nativeAvailable, type OpenLogOptions, openLog } from '../../src/ts/wal/open.js';

export type EngineName = LogEngine['engine'];

const native = nativeAvailable();
if (!native.available) console.log(`tests of the native engine are skipped: ${native.reason}`);

/** The engines that can be tested here. */
export const engines: readonly EngineName[] = native.available ? ['portable', 'native'] : ['portable'];

export const identity = new Uint8Array(16).fill(0xa5);

/** A folder for logs that goes with the test. */
export function temporaryFolder(t: ExecutionContext, parent = tmpdir()): string {
  const folder = mkdtempSync(join(parent, 'phxqueue-wal-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Opens a log that is closed with the test. */
export async function open(
  t: ExecutionContext,
  engine: EngineName,
  folder: string,
  options: Partial<OpenLogOptions> = {},
): Promise<LogEngine> {
  const log = await openLog({ engine, folder, identity, segment_bytes: 64 * 1024, ...options });
  t.teardown(() => log.close());
  return log;
}

/** The same without a disk where that is possible: for tests of thousands of logs that do not depend on syncs. */
export function folderInMemory(t: ExecutionContext): string {
  return temporaryFolder(t, existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
}

export function entry(group: number, instance: number, body: string | Uint8Array): LogRecord {
  return { kind: RecordKind.entry, group, instance, body: [Buffer.from(body)] };
}

export function state(group: number, slot: number, body: string | Uint8Array): LogRecord {
  return { kind: RecordKind.state, group, instance: slot, body: [Buffer.from(body)] };
}

/** Appends and waits until it is durable. */
export function append(log: LogEngine, ...records: LogRecord[]): Promise<void> {
  return new Promise((resolve, reject) => {
    log.append(records, (error) => (error === null ? resolve() : reject(error)));
  });
}

export function text(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : Buffer.from(bytes).toString();
}

/** Instances and bodies of a whole group. */
export async function entriesOf(log: LogEngine, group: number): Promise<[number, string | null][]> {
  const entries = await log.readRange(group, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  return entries.map(({ instance, body }) => [instance, text(body)]);
}

/** The files of a log by name, without its lock. */
export function filesOf(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder).filter((name) => !isLockName(name));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name))]));
}

/** Makes `folder` hold these files and no others. */
export function putFiles(folder: string, files: Map<string, Buffer>): string {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  return folder;
}
