import test from 'ava';
import fc from 'fast-check';
import { Lanes } from '../../src/ts/consumer/lanes.js';

test('one key runs strictly in order, within the limit, whatever the interleaving', async (t) => {
  // Goal: no two tasks of a key overlap, each starts in the order handed in, and the limit is never passed.
  // Method: random keys and random numbers of event-loop turns per task.
  const arbitrary = fc.record({
    limit: fc.integer({ min: 1, max: 5 }),
    tasks: fc.array(fc.record({ key: fc.integer({ min: 0, max: 4 }), turns: fc.integer({ min: 0, max: 4 }) }), {
      maxLength: 40,
    }),
  });
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ limit, tasks }) => {
      const lanes = new Lanes(limit);
      const finished = new Map<number, number[]>();
      const busy = new Set<number>();
      let overlapped = false;
      let running_max = 0;
      await Promise.all(
        tasks.map((task, position) =>
          lanes.run(task.key === 0 ? null : `k${task.key}`, async () => {
            running_max = Math.max(running_max, lanes.running);
            if (task.key !== 0) {
              overlapped ||= busy.has(task.key);
              busy.add(task.key);
            }
            for (let turn = 0; turn < task.turns; turn++) await new Promise((resolve) => setImmediate(resolve));
            busy.delete(task.key);
            finished.set(task.key, [...(finished.get(task.key) ?? []), position]);
          }),
        ),
      );
      await new Promise((resolve) => setImmediate(resolve));
      if (overlapped || running_max > limit || lanes.running !== 0 || lanes.busy_lanes !== 0) return false;
      return [...finished].every(
        ([key, positions]) => key === 0 || positions.every((p, i) => i === 0 || p > (positions[i - 1] ?? -1)),
      );
    }),
    { numRuns: 100 },
  );
  t.pass();
});

test('keyless tasks run at the same time', async (t) => {
  const lanes = new Lanes(3);
  let arrived = 0;
  let release: () => void = () => undefined;
  const all_here = new Promise<void>((resolve) => {
    release = resolve;
  });
  await Promise.all(
    [0, 1, 2].map(() =>
      lanes.run(null, async () => {
        arrived += 1;
        if (arrived === 3) release();
        await all_here;
      }),
    ),
  );
  t.is(arrived, 3);
});

test('order of a key holds across fetches, and a failed task does not block its lane', async (t) => {
  const lanes = new Lanes(10);
  const seen: string[] = [];
  const first = lanes.run('a', async () => {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push('first');
    throw new Error('refused');
  });
  const second = lanes.run('a', async () => {
    seen.push('second');
  });
  await t.throwsAsync(first, { message: 'refused' });
  await second;
  t.deepEqual(seen, ['first', 'second']);
});
