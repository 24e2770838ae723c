/** Runs a workload, lets the power fail at each of its calls, and looks at what every crash leaves. */

import { Random } from '../sim/random.js';
import type { BrokenFiles } from './broken_files.js';
import { type CrashImage, crashImages, sampledImages } from './crash_images.js';
import { Ledger, Violation } from './crash_ledger.js';
import type { Workload } from './crash_workloads.js';
import { type CrashPoint, World, type WorldOptions, wantEntry, wantState } from './crash_world.js';
import { SimDisk } from './sim_disk.js';

export interface ExploreOptions {
  readonly seed: number;
  /** Images of each crash; null for all of them. */
  readonly images_max: number | null;
  /**
   * So many of them suffer a second crash at each call of the recovery, which has at most so many images. Then also a process
   * that is killed there, and loses nothing, is followed by a crash at each call of the next one.
   */
  readonly second_crashes: number;
  readonly second_images_max: number;
  /** At one of so many crash points. */
  readonly second_crashes_every: number;
  /** Breaks the files of the workload, or of those that open what it left. */
  readonly broken?: BrokenFiles;
}

/** What was looked at. */
export interface Explored {
  /** Calls of the workload that change something. */
  calls: number;
  /** Which they were, by kind and file. */
  readonly called: ReadonlySet<string>;
  /** Those of them after which a crash may leave something else than before. */
  crash_points: number;
  images: number;
  /** Crashes during a recovery, and their images. */
  second_crash_points: number;
  second_images: number;
}

/** Group of what is appended after a crash. */
const AFTERWARDS = 900;

/** Runs a workload without a crash; how long each call takes follows from the seed. */
export async function runOnce({ segment_bytes, run }: Workload, seed: number): Promise<void> {
  await orHang(run(new World(new SimDisk(), { segment_bytes, seed })));
}

/** @throws Violation with the way to it */
export async function explore(workload: Workload, options: ExploreOptions): Promise<Explored> {
  const points: CrashPoint[] = [];
  const { seed, broken } = options;
  const { segment_bytes } = workload;
  const brokenWhen = (when: 'before' | 'after'): Partial<WorldOptions> => {
    return broken?.when === when ? { wrap: broken.wrap } : {};
  };
  const onCrashPoint = (point: CrashPoint): void => void points.push(point);
  const world = new World(new SimDisk(), { segment_bytes, seed, onCrashPoint, ...brokenWhen('before') });
  await orHang(workload.run(world));
  world.end();
  const { calls, called } = world;
  const explored = { calls, called, crash_points: 0, images: 0, second_crash_points: 0, second_images: 0 };
  const random = new Random(seed);
  const settings: WorldOptions = { segment_bytes, seed, ...brokenWhen('after') };
  for (const point of points) {
    explored.crash_points++;
    const twice = explored.crash_points % options.second_crashes_every === 0;
    let second_crashes = twice ? options.second_crashes : 0;
    if (second_crashes > 0) {
      await within(`${workload.name}, seed ${seed}, killed at ${placeOf(point)}`, async () => {
        const killed = SimDisk.killed(point.disk);
        await crashAgain(killed, point, settings, random, options.second_images_max, explored);
      });
    }
    for (const image of imagesOf(point, random, options.images_max)) {
      explored.images++;
      const files = image.disk.visible();
      await within(`${workload.name}, seed ${seed}, crash at ${placeOf(point)}; ${image.what}`, async () => {
        const ending = random.integer(0, ENDINGS - 1);
        await checkImage(image.disk, point, settings, ending);
        if (second_crashes-- > 0)
          await crashAgain(new SimDisk(files), point, settings, random, options.second_images_max, explored);
      });
    }
  }
  return explored;
}

function imagesOf(point: CrashPoint, random: Random, images_max: number | null): Iterable<CrashImage> {
  return images_max === null ? crashImages(point.disk, random) : sampledImages(point.disk, random, images_max);
}

/** Opens the image again, and crashes at each call until the log works on. */
async function crashAgain(
  disk: SimDisk,
  point: CrashPoint,
  settings: WorldOptions,
  random: Random,
  images_max: number,
  explored: Explored,
): Promise<void> {
  const points: CrashPoint[] = [];
  const world = new World(
    disk,
    { ...settings, onCrashPoint: (second) => points.push(second) },
    new Ledger(point.ledger),
  );
  await orHang(useOnce(world));
  for (const second of points) {
    explored.second_crash_points++;
    for (const image of sampledImages(second.disk, random, images_max)) {
      explored.second_images++;
      await within(`then at ${placeOf(second)}; ${image.what}`, async () => {
        await checkImage(image.disk, second, settings, random.integer(0, ENDINGS - 1));
      });
    }
  }
}

const ENDINGS = 3;

/** Opens what a crash left, works on, ends by a close, a kill or a loss of power, and opens it once more. */
async function checkImage(disk: SimDisk, point: CrashPoint, settings: WorldOptions, ending: number): Promise<void> {
  const world = new World(disk, settings, new Ledger(point.ledger));
  await orHang(useOnce(world));
  if (ending === 0) {
    await orHang(world.close());
    if (world.open_files !== 0) throw new Violation(`${world.open_files} files or locks are left open`);
  } else {
    world.kill();
  }
  const [after] = ending === 1 ? sampledImages(disk.state(), new Random(0), 2) : [];
  const again = new World(after?.disk ?? disk, settings, world.ledger);
  await orHang(openSound(again));
  const { torn_bytes } = again.log.recovery;
  if (ending === 0 && torn_bytes > 0) throw new Violation(`${torn_bytes} torn bytes after a clean close`);
  await orHang(again.close());
}

async function useOnce(world: World): Promise<void> {
  await openSound(world);
  await world.append(wantEntry(AFTERWARDS, world.ledger.next, 700), wantState(AFTERWARDS, 0));
  await world.log.settled();
}

/** A crash is never corruption. */
async function openSound(world: World): Promise<void> {
  await world.open();
  const { corrupt, damaged_marks } = world.log.recovery;
  if (corrupt.length > 0) throw new Violation(`reported as corrupt: ${JSON.stringify(corrupt)}`);
  if (damaged_marks > 0) throw new Violation(`${damaged_marks} copies of the marks are reported as damaged`);
}

/** All that a simulated process does happens before the event loop turns: what is not done then never is. */
export async function orHang(work: Promise<void>): Promise<void> {
  let cancel = (): void => {};
  const turned = new Promise<never>((_, reject) => {
    const immediate = setImmediate(() => reject(new Violation('it waits for something that never happens')));
    cancel = () => clearImmediate(immediate);
  });
  try {
    await Promise.race([work, turned]);
  } finally {
    cancel();
  }
}

function placeOf({ number, call }: CrashPoint): string {
  return `call ${number} (${call.kind} ${call.name})`;
}

async function within(where: string, check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Violation(`${where}: ${what}`, { cause: error });
  }
}
