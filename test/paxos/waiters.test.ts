import test from 'ava';
import { refusalError, Waiters } from '../../src/ts/paxos/waiters.js';

test('who waits hears once: the outcome, a refusal, or that nobody will know', async (t) => {
  const waiters = new Waiters();
  const [applied, refused, given_up, other] = [
    waiters.add(0).applied,
    waiters.add(0).applied,
    waiters.add(0).applied,
    waiters.add(1).applied,
  ];
  waiters.resolve(1, { instance: 7, result: 'done' });
  waiters.refuse(2, 'NOT_MASTER');
  waiters.rejectGroup(0, refusalError('PROPOSE_TIMEOUT'));
  waiters.resolve(3, { instance: 8, result: 'too late' });
  waiters.rejectAll(refusalError('NO_MASTER'));
  t.deepEqual(await applied, { instance: 7, result: 'done' });
  await t.throwsAsync(refused, { code: 'NOT_MASTER' });
  await t.throwsAsync(given_up, { code: 'PROPOSE_TIMEOUT' });
  await t.throwsAsync(other, { code: 'NO_MASTER' }, 'another group is not concerned');
});
