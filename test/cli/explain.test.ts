import test from 'ava';
import { explain } from '../../src/ts/cli/wal_tool/explain.js';
import { NO_BALLOT, nextBallot } from '../../src/ts/paxos/core/ballot.js';
import { membersValue } from '../../src/ts/paxos/core/value.js';
import { recordOf } from '../../src/ts/paxos/records.js';

test('a members value is explained, and a ballot of a new member names its place', (t) => {
  const ballot = nextBallot(NO_BALLOT, 19);
  const members = [
    { id: 19, role: 'voter' as const, birth: '00000000000000ab', host: '127.0.0.1', port: 5_003, site: '' },
  ];
  const value = membersValue(ballot, { based_on: 7, next_id: 20, members });
  const record = recordOf(0, { type: 'entry', instance: 9, ballot, chosen_through: 8, value });
  const explained = { number: ballot, round: 1, replica: 3 };
  t.deepEqual(explain('entry', 9, Buffer.concat(record.body)), {
    ballot: explained,
    chosen_through: 8,
    value: { type: 'members', origin: explained, based_on: 7, next_id: 20, members },
  });
});
