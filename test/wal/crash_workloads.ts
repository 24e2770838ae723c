/** The scripts whose every call is a moment for a crash. */
import { assert } from '../../src/ts/errors.js';
import { type World, wantEntry, wantState } from './crash_world.js';

export interface Workload {
  readonly name: string;
  readonly segment_bytes: number;
  readonly run: (world: World) => Promise<void>;
  /** Calls that it must have led to, so that it is known to do what its name says. */
  readonly calls: readonly string[];
}

/** Small and large appends, alone and many at once, of one record and of several, with states. */
async function appends(world: World): Promise<void> {
  await world.open();
  await world.append(wantState(1, 0));
  await world.append(wantEntry(1, 1, 30));
  await world.append(wantEntry(1, 2, 3000), wantState(1, 0), wantEntry(2, 1, 700));
  const together = [1, 2, 3, 4].map((number) => world.append(wantEntry(3, number, 100 * number), wantState(3, 0)));
  together.push(world.append(), world.append(wantEntry(3, 2, 900), wantEntry(3, 5, 50)));
  await Promise.all(together);
  world.passTime();
  const first = world.append(wantEntry(4, 1, 1500), wantState(4, 1), wantState(4, 2));
  await null;
  const second = world.append(wantEntry(4, 2, 600), wantEntry(4, 3, 600));
  await first;
  await Promise.all([second, world.append(wantState(1, 0, 500))]);
  await world.log.settled();
  await world.append(wantEntry(1, 3, 2000), wantEntry(1, 4, 2000), wantState(1, 0));
  await world.close();
  await world.open();
  await world.append(wantEntry(1, 5, 40), wantState(1, 0));
  await world.close();
}

/** Segment after segment; what is truncated gives its file to a later one. */
async function rotate(world: World): Promise<void> {
  await world.open();
  for (let instance = 1; instance <= 14; instance++) {
    const appended = world.append(wantEntry(1, instance, 900 + 150 * (instance % 4)), wantState(1, 0));
    if (instance % 3 !== 0) await appended;
    if (instance % 4 === 0) world.truncate(1, instance - 2);
    if (instance % 5 === 0) world.passTime();
    if (instance === 9) await world.log.settled();
    if (instance % 3 === 0) await Promise.all([appended, world.append(wantEntry(2, instance, 1700))]);
    if (instance === 10) world.truncate(2, 9);
  }
  await world.log.settled();
  world.truncate(2, 1000);
  world.truncate(1, 14);
  await world.log.settled();
  for (let instance = 15; instance <= 20; instance++) await world.append(wantEntry(1, instance, 1600));
  await world.close();
}

/** Few records live in each segment: they are moved while appends supersede some of them. */
async function compact(world: World): Promise<void> {
  await world.open();
  for (let round = 1; round <= 6; round++) {
    const appended = [world.append(wantEntry(1, round, 300), wantState(1, round % 3))];
    for (let number = 0; number < 3; number++) {
      appended.push(world.append(wantEntry(2, 10 * round + number, 1000), wantState(2, 0)));
    }
    await appended[0];
    world.truncate(2, 10 * round);
    // Also of what is just being moved.
    if (round > 2) appended.push(world.append(wantEntry(1, round - 2, 200), wantState(1, (round + 1) % 3)));
    if (round % 2 === 0) await Promise.all(appended);
    if (round === 4) world.passTime();
    if (round === 5) await world.log.settled();
  }
  await world.log.settled();
  world.truncate(1, 4);
  await world.append(wantEntry(1, 5, 250), wantState(2, 0));
  await world.log.settled();
  assert(world.log.stats().rewritten_bytes > 0, 'records were moved');
  await world.close();
}

const CHUNKS = 1000;

/** Snapshots of a state machine: chunks, then the state that names them, and only then the old ones and the log go. */
async function snapshot(world: World): Promise<void> {
  await world.open();
  let instance = 0;
  for (let taken = 1; taken <= 3; taken++) {
    const appended: Promise<void>[] = [];
    for (let number = 0; number < 4; number++)
      appended.push(world.append(wantEntry(1, ++instance, 400), wantState(1, 0)));
    const through = instance;
    const chunks = [0, 1, 2].map((chunk) => world.append(wantEntry(CHUNKS, 100 * taken + chunk, 1300)));
    // The log goes on meanwhile.
    appended.push(world.append(wantEntry(1, ++instance, 200)));
    await Promise.all(chunks);
    await world.append(wantState(1, 5, 100));
    world.truncate(CHUNKS, 100 * taken);
    world.truncate(1, through);
    await Promise.all(appended);
    if (taken === 2) world.passTime();
  }
  await world.log.settled();
  await world.close();
}

/** Lives that end by a kill, with unfinished batches, removals and spares; each is followed by a recovery. */
async function recover(world: World): Promise<void> {
  void world.open();
  while (!world.called.has('write marks.new')) await null;
  world.kill();
  for (let life = 1; life <= 5; life++) {
    await world.open();
    await world.append(wantEntry(1, 10 * life, 900), wantState(1, 0));
    if (life % 2 === 0) world.truncate(1, 10 * (life - 1));
    const unfinished = [world.append(wantEntry(1, 10 * life + 1, 1200), wantEntry(2, life, 300), wantState(1, 0))];
    unfinished.push(world.append(wantEntry(1, 10 * life + 2, 1000)));
    for (const each of unfinished) each.catch(() => {});
    for (let turn = 0; turn < 9 * life; turn++) await null;
    world.kill();
  }
  await world.open();
  await world.append(wantState(1, 0));
  await world.log.settled();
  await world.close();
}

const ROTATION = ['create .seg.new', 'rename .seg.new', 'write .seg.new', 'write marks', 'syncFolder '];
/** A segment is retired, and its file becomes the spare. */
const REMOVAL = ['rename .seg', 'rename .seg.old'];

export const WORKLOADS: readonly Workload[] = [
  { name: 'append', segment_bytes: 16 * 1024, run: appends, calls: ROTATION },
  { name: 'rotate', segment_bytes: 8 * 1024, run: rotate, calls: [...ROTATION, ...REMOVAL, 'unlink .seg'] },
  { name: 'compact', segment_bytes: 8 * 1024, run: compact, calls: [...ROTATION, ...REMOVAL] },
  { name: 'snapshot', segment_bytes: 8 * 1024, run: snapshot, calls: [...ROTATION, ...REMOVAL] },
  { name: 'recover', segment_bytes: 8 * 1024, run: recover, calls: [...ROTATION, 'unlink marks.new'] },
];
