/** Runs the appender under strace, which lets single system calls fail or kills the process at them. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { EngineName } from './fixture.js';

const APPENDER = fileURLToPath(new URL('./appender.js', import.meta.url));

/** Why there is no tracing here, or null. */
export function straceLack(): string | null {
  const { status, error, stderr } = spawnSync('strace', ['-f', '-e', 'inject=fsync:error=EIO', 'true'], {
    encoding: 'utf8',
  });
  if (error !== undefined) return `strace cannot be run: ${error.message}`;
  return status === 0 ? null : `strace may not trace: ${stderr.trim().split('\n').at(-1)}`;
}

export interface Injection {
  readonly syscalls: readonly string[];
  /** `signal=KILL` or `error=EIO`. */
  readonly what: string;
  /** At which occurrence. */
  readonly when: number;
}

export interface AppenderRun {
  /** Numbers of the appends that were reported durable. */
  readonly reported: readonly number[];
  /** The injection happened. */
  readonly reached: boolean;
  readonly code: number | null;
  readonly signal: string | null;
  readonly stderr: string;
}

export interface AppenderOptions {
  readonly engine: EngineName;
  readonly folder: string;
  readonly first: number;
  readonly count: number;
  readonly segment_bytes: number;
}

/**
 * Runs the appender with one injection. strace counts the calls of each thread apart: all calls that libuv makes beside the main
 * thread come from one thread here, so that the count is theirs; the threads of the native engine are counted each for itself,
 * and the first of them to get there is hit.
 */
export async function appendUnderStrace(
  { engine, folder, first, count, segment_bytes }: AppenderOptions,
  { syscalls, what, when }: Injection,
  trace_path: string,
): Promise<AppenderRun> {
  const set = syscalls.join(',');
  // Not with --seccomp-bpf: strace 6.1 then sends no signal but at the first call.
  const strace = ['-f', '-qq', '-o', trace_path];
  const inject = ['-e', `trace=${set}`, '-e', `inject=${set}:${what}:when=${when}`];
  const appender = [process.execPath, APPENDER, engine, folder, first, count, segment_bytes].map(String);
  const child = spawn('strace', [...strace, ...inject, ...appender], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
  });
  const exited = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await exited;
  // strace ends as its process did, by its exit code or signal.
  const { exitCode: code, signalCode: signal } = child;
  const reached = what.startsWith('signal')
    ? signal === 'SIGKILL'
    : /\(INJECTED\)/.test(readFileSync(trace_path, 'utf8'));
  const reported = stdout.split('\n').filter((line) => /^\d+$/.test(line));
  return { reported: reported.map(Number), reached, code, signal, stderr };
}
