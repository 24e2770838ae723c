import test from 'ava';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { RefusalLog } from '../../src/ts/store/refusal_log.js';

test('of each kind one line per interval, with the number of those left out', (t) => {
  const lines: string[] = [];
  let now_ms = 0;
  const log = new RefusalLog({ warn: (line) => lines.push(line) }, () => now_ms);
  for (let i = 0; i < 5; i += 1) log.refused('Add', RetCode.RANGE_TOPIC, () => `topic ${i}`);
  log.refused('Get', RetCode.RANGE_TOPIC, () => 'topic 9');
  now_ms = 10_000;
  log.refused('Add', RetCode.RANGE_TOPIC, () => 'topic 5');
  t.deepEqual(lines, [
    'Add refused with RANGE_TOPIC (-10102): topic 0',
    'Get refused with RANGE_TOPIC (-10102): topic 9',
    'Add refused with RANGE_TOPIC (-10102): topic 5; 4 more of the kind since the last line',
  ]);
});

test('clients that look for the master are no news', (t) => {
  const lines: string[] = [];
  const log = new RefusalLog({ warn: (line) => lines.push(line) }, () => 0);
  log.refused('Add', RetCode.NOT_MASTER, () => '');
  log.refused('Get', RetCode.NO_MASTER, () => '');
  t.deepEqual(lines, []);
});
