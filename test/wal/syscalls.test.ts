// Goal: whichever system call of a real process is the last, or fails, all that was reported durable is there for both engines.
// Method: strace kills the appender at the N-th call of a kind or lets that call fail; the next one goes on in the same folder.
// The ordinary run takes a few N, PHXQUEUE_TEST_FULL=1 all from 1 to 100.
import { cpSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { APPENDER_GROUPS, APPENDER_KEPT, appenderBody } from './appender_records.js';
import { type EngineName, engines, folderInMemory, open, temporaryFolder, text } from './fixture.js';
import { type AppenderRun, appendUnderStrace, type Injection, straceLack } from './strace.js';

const FULL = process.env['PHXQUEUE_TEST_FULL'] === '1';
const WHEN = FULL ? Array.from({ length: 100 }, (_, index) => index + 1) : [1, 3, 8, 20, 55];
const SEGMENT_BYTES = 8192;
const APPENDS = 1200;

const lack = straceLack();
if (lack !== null) console.log(`tests of failing system calls are skipped: ${lack}`);

interface Kind {
  readonly syscalls: readonly string[];
  /** How it fails, besides being the last. */
  readonly errors: readonly string[];
}

const KINDS: readonly Kind[] = [
  { syscalls: ['fdatasync'], errors: ['EIO', 'ENOSPC'] },
  { syscalls: ['fsync'], errors: ['EIO'] },
  { syscalls: ['pwrite64', 'pwritev'], errors: ['EIO', 'ENOSPC', 'EDQUOT'] },
  { syscalls: ['rename', 'renameat', 'renameat2'], errors: ['EIO', 'ENOSPC'] },
  { syscalls: ['unlink', 'unlinkat'], errors: ['EIO'] },
  // Also what is said on the standard output, and what wakes the threads of a process: it can be the last, it must not fail.
  { syscalls: ['write'], errors: [] },
];

/** What was reported so far, in a folder that process after process goes on in. */
class Series {
  readonly folder: string;
  runs = 0;
  reached = 0;
  private readonly reported: number[] = [];
  private next = 1;
  private readonly t: ExecutionContext;
  private readonly engine: EngineName;

  constructor(t: ExecutionContext, engine: EngineName) {
    this.t = t;
    this.engine = engine;
    this.folder = join(temporaryFolder(t), 'log');
  }

  /** One process; afterwards both engines find all that was reported. */
  async run(injection: Injection): Promise<AppenderRun> {
    const options = { engine: this.engine, folder: this.folder, first: this.next, count: APPENDS };
    const trace_path = join(folderInMemory(this.t), 'trace');
    const run = await appendUnderStrace({ ...options, segment_bytes: SEGMENT_BYTES }, injection, trace_path);
    this.runs++;
    if (run.reached) this.reached++;
    this.reported.push(...run.reported);
    for (const reader of engines) await this.check(reader, `${injection.what} at ${injection.when}`);
    return run;
  }

  private async check(reader: EngineName, what: string): Promise<void> {
    const { t } = this;
    const copy = join(folderInMemory(t), 'copy');
    // A process may have been killed before it made the folder.
    if (this.reported.length === 0 && !existsSync(this.folder)) return;
    cpSync(this.folder, copy, { recursive: true, filter: (path) => !path.includes('lock-') });
    const log = await open(t, reader, copy, { segment_bytes: SEGMENT_BYTES });
    t.deepEqual(log.recovery.corrupt, [], what);
    t.is(log.recovery.damaged_marks, 0, what);
    const found = new Set<number>();
    for (let group = 0; group < APPENDER_GROUPS; group++) {
      for (const { instance, body } of await log.readRange(group, 0, Number.MAX_SAFE_INTEGER, 1e9)) {
        if (instance % APPENDER_GROUPS !== group || text(body) !== appenderBody(instance)) t.fail(`entry ${instance}`);
        found.add(instance);
      }
    }
    const last = this.reported.at(-1) ?? 0;
    const missing = this.reported.filter((number) => number >= last - APPENDER_KEPT && !found.has(number));
    t.deepEqual(missing, [], `${what}, read by ${reader}`);
    // An append is there with all its records or not at all, and the states belong to the last ones.
    const states = [0, 1].map((slot) => Number(text(log.state(9, slot)) ?? 0));
    const newest = Math.max(0, ...found);
    t.is(Math.max(...states), newest, what);
    if (newest > 1) t.is(Math.min(...states), newest - 1, what);
    t.true(newest >= last, what);
    this.next = newest + 1;
    await log.close();
  }
}

for (const engine of engines) {
  for (const { syscalls, errors } of KINDS) {
    const name = syscalls[0];
    const run = lack === null ? test.serial : test.serial.skip;
    run(`${engine}: killed at the N-th ${name}`, async (t) => {
      t.timeout(30 * 60_000);
      const series = new Series(t, engine);
      for (const when of WHEN) {
        const { signal, code, stderr } = await series.run({ syscalls, what: 'signal=KILL', when });
        t.true(signal === 'SIGKILL' || code === 0, stderr);
      }
      t.true(series.reached >= WHEN.length / 2);
      t.log(`${series.runs} processes, ${series.reached} of them killed`);
    });

    if (errors.length === 0) continue;
    run(`${engine}: the N-th ${name} fails`, async (t) => {
      t.timeout(30 * 60_000);
      for (const error of errors) {
        const series = new Series(t, engine);
        let stopped = 0;
        for (const when of WHEN) {
          const { code, reached, stderr } = await series.run({ syscalls, what: `error=${error}`, when });
          if (code !== 0) stopped++;
          if (code !== 0) t.regex(stderr, /LOG_POISONED|LOG_IO|LOG_FULL/, `${error} at ${when}: typed`);
          t.true(reached || code === 0);
        }
        t.true(series.reached >= WHEN.length / 2);
        t.log(`${error}: ${series.runs} processes, ${series.reached} of them met it, ${stopped} stopped`);
      }
    });
  }
}
