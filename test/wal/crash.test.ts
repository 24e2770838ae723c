// Goal: wherever the power fails, what was reported durable is there, nothing is invented, and the log works on. Method: five
// scripts on a simulated disk; at each call every subset of what is not durable survives (sim_disk.ts has the fault model). The
// ordinary run takes a sample of the images, PHXQUEUE_TEST_FULL=1 all of them.
import test from 'ava';
import { BROKEN_FILES } from './broken_files.js';
import { type ExploreOptions, explore, runOnce } from './crash_explorer.js';
import { WORKLOADS } from './crash_workloads.js';

const FULL = process.env['PHXQUEUE_TEST_FULL'] === '1';
const SEEDS = FULL ? [1, 2, 3] : [1];
/** Runs of each script without a crash, which differ in how long each call takes. */
const INTERLEAVINGS = FULL ? 2000 : 100;
const SAMPLE: Omit<ExploreOptions, 'seed'> = {
  images_max: 10,
  second_crashes: 1,
  second_images_max: 4,
  second_crashes_every: 2,
};
const ALL: Omit<ExploreOptions, 'seed'> = {
  images_max: null,
  second_crashes: 2,
  second_images_max: 12,
  second_crashes_every: 1,
};

for (const workload of WORKLOADS) {
  test(`${workload.name}: a crash at each call`, async (t) => {
    t.timeout(30 * 60_000);
    for (const seed of SEEDS) {
      const started_ms = performance.now();
      const explored = await explore(workload, { ...(FULL ? ALL : SAMPLE), seed });
      const seconds = ((performance.now() - started_ms) / 1000).toFixed(1);
      t.true(explored.crash_points > 20);
      for (const call of workload.calls) t.true(explored.called.has(call), call);
      t.log(
        `seed ${seed}: ${explored.calls} calls, ${explored.crash_points} crash points, ${explored.images} images; ` +
          `${explored.second_crash_points} second crashes, ${explored.second_images} images; ${seconds} s`,
      );
    }
  });
}

test('each order of calls that the file layer may take ends well', async (t) => {
  for (const workload of WORKLOADS) {
    for (let seed = 1; seed <= INTERLEAVINGS; seed++) {
      await t.notThrowsAsync(runOnce(workload, seed));
    }
  }
});

for (const broken of BROKEN_FILES) {
  test(`found: ${broken.name}`, async (t) => {
    const failures: string[] = [];
    for (const workload of WORKLOADS) {
      const options = {
        seed: 1,
        images_max: 10,
        second_crashes: 0,
        second_images_max: 0,
        second_crashes_every: 1,
        broken,
      };
      await explore(workload, options).catch((error: unknown) => failures.push(String(error)));
    }
    t.true(failures.length > 0);
    for (const failure of failures) t.regex(failure, /is durable, and it is|is held, as|corrupt|damaged|torn bytes/);
    t.log(`by ${failures.length} of ${WORKLOADS.length} workloads: ${failures[0]}`);
  });
}
