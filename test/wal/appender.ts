/**
 * A process to be killed: appends to the log of a folder and prints the number of each append once it is durable. Without end,
 * or so many appends and then a clean close; then it also truncates, and keeps the last `KEPT` numbers.
 * Arguments: engine, folder, first number, count (optional), segment_bytes (optional).
 */
import { writeSync } from 'node:fs';
import { openLog } from '../../src/ts/wal/open.js';
import { APPENDER_GROUPS, APPENDER_KEPT, appenderBody } from './appender_records.js';
import { entry, identity, state } from './fixture.js';

const [engine, folder = '', first, count = 'endless', segment_bytes = String(256 * 1024)] = process.argv.slice(2);
const log = await openLog({
  engine: engine === 'native' ? 'native' : 'portable',
  folder,
  identity,
  segment_bytes: Number(segment_bytes),
});
const OUTSTANDING = 64;
/** Truncations make several segments dead at once. */
const TRUNCATION_INTERVAL = 50;

let number = Number(first);
const end = count === 'endless' ? Number.POSITIVE_INFINITY : number + Number(count);
let outstanding = 0;

async function append(): Promise<void> {
  const mine = number++;
  const records = [entry(mine % APPENDER_GROUPS, mine, appenderBody(mine)), state(9, mine % 2, String(mine))];
  outstanding++;
  await new Promise<void>((resolve) => {
    log.append(records, (error) => {
      if (error !== null) throw error;
      // Past the buffers of this process, which is about to be killed.
      writeSync(1, `${mine}\n`);
      resolve();
    });
  });
  outstanding--;
  if (end < Number.POSITIVE_INFINITY && mine % TRUNCATION_INTERVAL === 0) {
    for (let group = 0; group < APPENDER_GROUPS; group++) log.truncate(group, mine - APPENDER_KEPT);
  }
  if (number < end) await append();
  else if (outstanding === 0) await log.close();
}

for (let started = 0; started < OUTSTANDING; started++) void append();
