// Goal: nothing that was reported durable is missing after kill -9, and nothing is invented. Method: a real process, killed
// again and again in the midst of its appends; the log is read by either engine.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { APPENDER_GROUPS, appenderBody } from './appender_records.js';
import { type EngineName, engines, open, temporaryFolder, text } from './fixture.js';

const APPENDER = fileURLToPath(new URL('./appender.js', import.meta.url));
const ROUNDS = 4;

/** Runs the appender until it has reported `count` appends, kills it, returns all numbers that it reported. */
async function appendUntilKilled(engine: EngineName, folder: string, first: number, count: number): Promise<number[]> {
  const child = spawn(process.execPath, [APPENDER, engine, folder, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const numbers: number[] = [];
  for await (const line of createInterface(child.stdout)) {
    if (/^\d+$/.test(line)) numbers.push(Number(line));
    if (numbers.length === count) child.kill('SIGKILL');
  }
  await exited;
  return numbers;
}

for (const engine of engines) {
  test(`${engine}: what was reported durable survives kill -9`, async (t) => {
    t.timeout(120_000);
    const folder = join(temporaryFolder(t), 'log');
    const reported = new Set<number>();
    let next = 1;
    for (let round = 0; round < ROUNDS; round++) {
      for (const number of await appendUntilKilled(engine, folder, next, 700 + round * 333)) reported.add(number);
      const reader = engines[round % engines.length] ?? engine;
      const log = await open(t, reader, folder, { segment_bytes: 256 * 1024 });
      t.deepEqual(log.recovery.corrupt, []);
      let last = 0;
      for (const group of [0, 1, 2]) {
        const entries = await log.readRange(group, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
        const found = new Set(entries.map(({ instance }) => instance));
        for (const { instance, body } of entries) {
          t.true(instance % APPENDER_GROUPS === group && text(body) === appenderBody(instance));
        }
        const missing = [...reported].filter((number) => number % APPENDER_GROUPS === group && !found.has(number));
        t.deepEqual(missing, []);
        last = Math.max(last, log.bounds(group)?.last ?? 0);
      }
      // An append is there with all its records or not at all.
      const states = [0, 1].map((slot) => Number(text(log.state(9, slot))));
      t.is(Math.max(...states), last);
      next = last + 1;
      await log.close();
    }
    t.true(reported.size >= ROUNDS * 700);
  });
}
