// Goal: a call of the file layer that fails, however, never leads to a false word: nothing is reported durable that is not, the
// log is poisoned or short of space and says so, and opening it again finds all that was reported. Method: one workload on
// the simulated disk, once for each kind of call, each error and each of the first 50 occurrences.
import test, { type ExecutionContext } from 'ava';
import { assert, PhxError } from '../../src/ts/errors.js';
import { Random } from '../sim/random.js';
import { orHang } from './crash_explorer.js';
import { sampledImages } from './crash_images.js';
import { Ledger } from './crash_ledger.js';
import { World, wantEntry, wantState } from './crash_world.js';
import { SimDisk } from './sim_disk.js';
import type { CallKind, SimCall, SimFailure } from './sim_files.js';

const OCCURRENCES = 50;
const SEGMENT_BYTES = 8192;

interface Fault {
  readonly kind: CallKind;
  readonly code: string;
  /** Bytes of a write that get there. */
  readonly bytes_written: number;
}

const FAULTS: readonly Fault[] = [
  ...['EIO', 'ENOSPC', 'EDQUOT'].flatMap((code): Fault[] => [
    { kind: 'write', code, bytes_written: 0 },
    { kind: 'write', code, bytes_written: 700 },
    ...(['sync', 'create', 'rename', 'unlink', 'syncFolder'] as const).map((kind) => ({
      kind,
      code,
      bytes_written: 0,
    })),
  ]),
  { kind: 'read', code: 'EIO', bytes_written: 0 },
  { kind: 'open', code: 'EIO', bytes_written: 0 },
  { kind: 'list', code: 'EIO', bytes_written: 0 },
];

/** Lets the call fail that comes after `after` others of its kind. */
class Failing {
  hit: SimCall | null = null;
  private left: number;
  private readonly fault: Fault;

  constructor(fault: Fault, after: number) {
    this.fault = fault;
    this.left = after;
  }

  readonly failureOf = (call: SimCall): SimFailure | null => {
    if (call.kind !== this.fault.kind || this.hit !== null || this.left-- > 0) return null;
    this.hit = call;
    return this.fault;
  };
}

/** Rotations, truncations, rewriting, a close and a second opening; ends at the first error. */
async function work(world: World, seen: { low_on_space: boolean }): Promise<void> {
  for (const base of [0, 100]) {
    await world.open();
    for (let number = 1; number <= 12; number++) {
      const instance = base + number;
      const appended = [world.append(wantEntry(1, instance, 1300), wantState(1, 0))];
      if (number % 3 === 0) appended.push(world.append(wantEntry(2, instance, 200), wantEntry(3, instance, 100)));
      await Promise.all(appended);
      // In the first life many segments die at once: more than are kept to be used again.
      if (base === 0 ? number === 11 : number % 4 === 0) world.truncate(1, instance - 1);
      if (number % 5 === 0) world.passTime();
      await world.log.settled();
      if (world.log.low_on_space) {
        seen.low_on_space = true;
        world.passTime();
      }
    }
    await world.close();
  }
}

/** Errors that a caller may be told. */
const TOLD = ['LOG_POISONED', 'LOG_IO', 'LOG_FULL', 'LOG_CORRUPT'];

async function survive(
  t: ExecutionContext,
  fault: Fault,
  after: number,
  outcomes: Map<string, number>,
): Promise<boolean> {
  const failing = new Failing(fault, after);
  const disk = new SimDisk();
  const world = new World(disk, { segment_bytes: SEGMENT_BYTES, seed: after, failureOf: failing.failureOf });
  const where = `${fault.code} in ${fault.kind} ${after} (${fault.bytes_written} bytes)`;
  const seen = { low_on_space: false };
  const error = await orHang(work(world, seen)).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error !== null) {
    if (!(error instanceof PhxError) || !TOLD.includes(error.code)) t.fail(`${where}: ${error}`);
    else if (error.code === 'LOG_POISONED') await checkPoisoned(t, world, where);
    if (world.isOpen) await orHang(world.close()).catch(() => {});
  }
  t.is(world.open_files, 0, `${where}: left open`);
  const call = `${fault.kind} ${failing.hit?.name.replace(/^\d+/, '') ?? ''}`;
  const outcome = error instanceof PhxError ? error.code : seen.low_on_space ? 'low on space' : 'none';
  if (failing.hit !== null) checkOutcome(t, fault, failing.hit, outcome, where);
  if (failing.hit !== null) outcomes.set(`${call}: ${outcome}`, (outcomes.get(`${call}: ${outcome}`) ?? 0) + 1);
  // What was written is gone, is there in part, or is still in memory.
  const lives = sampledImages(disk.state(), new Random(after), 4).map((image) => image.disk);
  for (const left of [...lives, disk]) {
    const again = new World(left, { segment_bytes: SEGMENT_BYTES, seed: after }, new Ledger(world.ledger.state()));
    try {
      await orHang(useAgain(again));
      const [lost] = sampledImages(left.state(), new Random(after), 1);
      await orHang(
        useAgain(new World(lost?.disk ?? left, { segment_bytes: SEGMENT_BYTES, seed: after }, again.ledger)),
      );
    } catch (reason) {
      t.fail(`${where}, reopened: ${reason}`);
    }
  }
  return failing.hit !== null;
}

/** Which outcomes a failed call may have. `none` is for what failed beside the appends, and was met by nobody any more. */
function checkOutcome(
  t: ExecutionContext,
  { code, kind }: Fault,
  { name }: SimCall,
  outcome: string,
  where: string,
): void {
  const isWrite = kind === 'write' || kind === 'sync';
  if (name.endsWith('.seg.new') && (isWrite || kind === 'create') && code !== 'EIO') {
    t.true(['low on space', 'LOG_IO', 'none'].includes(outcome), `${where}: ${outcome}`);
  }
  if (!name.includes('.seg') && isWrite)
    t.true(['LOG_POISONED', 'LOG_IO', 'none'].includes(outcome), `${where}: ${outcome}`);
}

/** Nothing is written any more, and what is durable can be read. */
async function checkPoisoned(t: ExecutionContext, world: World, where: string): Promise<void> {
  await orHang(world.log.settled());
  const calls = world.calls;
  await t.throwsAsync(orHang(world.append(wantState(5, 0))), { code: 'LOG_POISONED' }, where);
  await orHang(world.checkNow());
  await orHang(world.close());
  t.is(world.calls, calls, `${where}: written after a failure`);
}

async function useAgain(world: World): Promise<void> {
  await world.open();
  assert(world.log.recovery.corrupt.length === 0, 'nothing is corrupt');
  await world.append(wantEntry(4, 1, 500));
  await world.log.settled();
  world.kill();
}

for (const kind of new Set(FAULTS.map((fault) => fault.kind))) {
  test(`${kind} fails`, async (t) => {
    t.timeout(120_000);
    const outcomes = new Map<string, number>();
    let runs = 0;
    let hits = 0;
    for (const fault of FAULTS.filter((each) => each.kind === kind)) {
      for (let after = 0; after < OCCURRENCES; after++) {
        runs++;
        if (await survive(t, fault, after, outcomes)) hits++;
      }
    }
    t.true(hits > 0);
    t.log(`${runs} runs, ${hits} of them met the fault`);
    for (const [outcome, count] of [...outcomes].sort()) t.log(`${outcome} (${count})`);
  });
}
