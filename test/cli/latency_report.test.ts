import test from 'ava';
import { LatencyReport } from '../../src/ts/cli/latency_report.js';

test('a block counts codes, times and rests, and starts over', (t) => {
  const report = new LatencyReport();
  for (const usetime_ms of [0.5, 1, 4.9, 30, 1500]) report.record(0, usetime_ms);
  for (let n = 0; n < 5; n += 1) report.record(n === 0 ? -202 : 10105, 3);
  report.recordSleep(15_000);
  t.is(report.total, 10);
  t.deepEqual(report.take(10_000, 2).split('\n'), [
    '-----------------------------------------------------',
    '--\ttotal:\t10',
    '--\ttime(ms):\t10000',
    '--\tqps:\t1.00',
    '--\troutine_sleep:\t75.00%',
    '--\tretcode\tcnt\tpercent',
    '--\t-202\t1\t10.00%',
    '--\t0\t5\t50.00%',
    '--\t10105\t4\t40.00%',
    '--\tusetime(ms)\tcnt\tpercent',
    '--\t< 1\t1\t10.00%',
    '--\t< 2\t1\t10.00%',
    '--\t< 5\t6\t60.00%',
    '--\t< 10\t0\t0.00%',
    '--\t< 20\t0\t0.00%',
    '--\t< 50\t1\t10.00%',
    '--\t< 100\t0\t0.00%',
    '--\t< 200\t0\t0.00%',
    '--\t< 500\t0\t0.00%',
    '--\t< 1000\t0\t0.00%',
    '--\t>= 1000\t1\t10.00%',
    '--\tavg_usetime(ms):\t155.14',
    '--\tp50/p99/p99.9_usetime(ms):\t3.00/1500.00/1500.00',
  ]);
  t.is(report.total, 0);
  t.true(report.take(10_000, 2).includes('--\ttotal:\t0'));
});
