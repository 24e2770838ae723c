/** What the tests of `wal_tool` share: runs of the program, logs to look at, and the whole state of a folder. */
import { spawn } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { LogRecord } from '../../src/ts/wal/engine.js';
import { append, filesOf, folderInMemory, open, putFiles } from '../wal/fixture.js';

export const SEGMENT_HEADER_BYTES = 4096;

export interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly lines: readonly string[];
}

export const program = resolve('bin/wal_tool');

/** Runs the program to its end. */
export function walTool(...args: string[]): Promise<Run> {
  return runToEnd(process.execPath, [program, ...args]);
}

export function runToEnd(command: string, args: readonly string[]): Promise<Run> {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    }
    child.once('error', reject);
    child.once('close', (status) => done({ status, ...output, lines: output.stdout.split('\n').slice(0, -1) }));
  });
}

/** A log that was closed: each list of records is an append of its own. */
export async function closedLog(
  t: ExecutionContext,
  appends: LogRecord[][],
  segment_bytes = 64 * 1024,
): Promise<string> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes });
  for (const records of appends) await append(log, ...records);
  await log.settled();
  await log.close();
  return folder;
}

/** The same as a kill leaves it, with marks that lag behind. */
export async function killedLog(
  t: ExecutionContext,
  appends: LogRecord[][],
  segment_bytes = 64 * 1024,
): Promise<string> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes });
  await log.settled();
  for (const records of appends) await append(log, ...records);
  const killed = putFiles(join(folderInMemory(t), 'killed'), filesOf(folder));
  await log.close();
  return killed;
}

/** Everything about the files of a folder and the folder itself that a program which only reads must leave alone. */
export function stateOf(folder: string): unknown {
  const files = readdirSync(folder)
    .sort()
    .map((name) => {
      const path = join(folder, name);
      const { mode, size, ino, mtimeNs, ctimeNs } = lstatSync(path, { bigint: true });
      const bytes = lstatSync(path).isFile() ? readFileSync(path, 'latin1') : '';
      return { name, mode, size, ino, mtimeNs, ctimeNs, bytes };
    });
  const { mtimeNs, ctimeNs } = lstatSync(folder, { bigint: true });
  return { files, mtimeNs, ctimeNs };
}

export const reading_commands = [
  ['inspect'],
  ['inspect', '--json'],
  ['verify'],
  ['verify', '--json'],
  ['dump'],
  ['repair'],
];

/** Runs all commands that only read; fails if one of them changed anything. Returns the runs by their arguments. */
export async function readAll(t: ExecutionContext, folder: string): Promise<Map<string, Run>> {
  const before = stateOf(folder);
  const runs = new Map<string, Run>();
  for (const [command = '', ...options] of reading_commands) {
    const run = await walTool(command, folder, ...options);
    t.deepEqual(stateOf(folder), before, `${command} leaves everything as it is`);
    runs.set([command, ...options].join(' '), run);
  }
  return runs;
}

export function flip(bytes: Buffer, at: number): void {
  bytes[at] = (bytes[at] ?? 0) ^ 0x04;
}
