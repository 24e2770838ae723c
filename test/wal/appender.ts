/**
 * A process to be killed: appends to the log of a folder without end and prints the number of each append once it is
 * durable. Arguments: engine, folder, first number.
 */
import { writeSync } from 'node:fs';
import { openLog } from '../../src/ts/wal/open.js';
import { entry, identity, state } from './fixture.js';

const [engine, folder = '', first] = process.argv.slice(2);
const log = await openLog({
  engine: engine === 'native' ? 'native' : 'portable',
  folder,
  identity,
  segment_bytes: 256 * 1024,
});
let number = Number(first);
const OUTSTANDING = 64;

function next(): void {
  const mine = number++;
  const records = [entry(mine % 3, mine, `${mine} `.repeat(mine % 200)), state(9, mine % 2, String(mine))];
  log.append(records, (error) => {
    if (error !== null) throw error;
    // Past the buffers of this process, which is about to be killed.
    writeSync(1, `${mine}\n`);
    next();
  });
}

for (let started = 0; started < OUTSTANDING; started++) next();
