import test from 'ava';
import type { Mastership } from '../../src/ts/paxos/replicated_log.js';
import { groupList, MasterWatch } from '../../src/ts/store/master_watch.js';
import { test_replicas } from './requests.js';

test('says what changed, once, with the groups that changed alike in one line', (t) => {
  const masters = new Map<number, Mastership>();
  const lines: string[] = [];
  const log = {
    groups: 5,
    replicas: test_replicas,
    mastership: (group: number): Mastership => masters.get(group) ?? { role: 'unknown' },
  };
  const watch = new MasterWatch(log, (line) => lines.push(line));
  watch.check();
  t.deepEqual(lines, []);
  t.deepEqual(watch.masterless(), [0, 1, 2, 3, 4]);
  for (const group of [0, 1, 2, 4]) masters.set(group, { role: 'master' });
  masters.set(3, { role: 'follower', master: 2 });
  watch.check();
  watch.check();
  t.deepEqual(lines.splice(0), [
    'MASTERSTAT: INFO: groups 0-2, 4: this replica is master',
    'MASTERSTAT: INFO: group 3: replica 2 (paxos 127.0.0.1:5201) is master',
  ]);
  t.deepEqual(watch.masterless(), []);
  masters.delete(4);
  watch.check();
  t.deepEqual(lines, ['MASTERSTAT: INFO: group 4: no master']);
  t.deepEqual(watch.masterless(), [4]);
});

test('lists of groups are short', (t) => {
  t.is(groupList([5]), 'group 5');
  t.is(groupList([0, 1]), 'groups 0-1');
  t.is(groupList([0, 2, 3, 4, 9]), 'groups 0, 2-4, 9');
});
