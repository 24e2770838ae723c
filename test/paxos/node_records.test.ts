import test from 'ava';
import type { OwnRecord } from '../../src/ts/paxos/formation_types.js';
import { holdsGroups, NODE_GROUP, nodeRecordsOf, readNodeRecords } from '../../src/ts/paxos/node_records.js';
import type { KnownPeer } from '../../src/ts/paxos/peer_memory.js';
import type { CorruptRecord, LogEngine } from '../../src/ts/wal/engine.js';
import { fakeLog } from './fake_log.js';
import { reportOf } from './sockets.js';

const [a, b, c] = [1, 2, 3].map((seed) => reportOf(seed).birth);
const own: OwnRecord = {
  birth: a ?? '',
  start: 4,
  origin: 'empty',
  agreed: [a ?? null, b ?? null, c ?? null],
  formed: [a ?? null, null, null],
  member: 1,
  ids: null,
};
const peers: KnownPeer[] = [{ place: 2, birth: b ?? '', start: 1, run: c ?? '', position: 2 ** 40, member: 2 }];

/** State records as a log gives them back. */
function logOf(
  bodies: readonly (string | Uint8Array)[],
  corrupt: readonly CorruptRecord[] = [],
): Pick<LogEngine, 'state' | 'recovery'> {
  return {
    recovery: fakeLog({ corrupt }).log.recovery,
    state: (group, slot) => {
      const body = bodies[slot];
      return group !== NODE_GROUP || body === undefined ? null : Buffer.from(body);
    },
  };
}

function written(): Buffer[] {
  return nodeRecordsOf(own, peers).map(({ body }) => Buffer.concat(body));
}

test('what a replica keeps of itself and of the others comes back', (t) => {
  t.deepEqual(
    nodeRecordsOf(own, peers).map(({ kind, group, instance }) => [kind, group, instance]),
    [
      [2, 0xffff_fffe, 0],
      [2, 0xffff_fffe, 1],
    ],
  );
  t.deepEqual(readNodeRecords(logOf(written()), 3), { own, peers });
  t.deepEqual(readNodeRecords(logOf([]), 3), { own: null, peers: [] });
});

test('a member in place of another comes back with its ids', (t) => {
  const enrolled = { ...own, member: 17, ids: [17, 33] };
  const bodies = nodeRecordsOf(enrolled, []).map(({ body }) => Buffer.concat(body));
  t.deepEqual(readNodeRecords(logOf(bodies), 3), { own: enrolled, peers: [] });
});

/** As software wrote it that knew no members but the founders. */
const VERSION_1 = [
  '{"version":1,"birth":"000000000000000a","start":4,"origin":"empty","agreed":["000000000000000a",null,null],' +
    '"formed":["000000000000000a",null,null],"member":1}',
  '{"version":1,"peers":[' +
    '{"place":2,"birth":"000000000000000b","start":1,"run":"000000000000000c","position":7,"votes":true},' +
    '{"place":3,"birth":"000000000000000d","start":2,"run":"000000000000000e","position":0,"votes":false}]}',
];

test('records of version 1 are read', (t) => {
  const founders = ['000000000000000a', null, null];
  const read = readNodeRecords(logOf(VERSION_1), 3);
  const about = { birth: '000000000000000a', start: 4, origin: 'empty', agreed: founders, formed: founders };
  t.deepEqual(read.own, { ...about, origin: 'empty', member: 1, ids: null });
  t.deepEqual(
    read.peers.map(({ place, member }) => [place, member]),
    [
      [2, 2],
      [3, null],
    ],
  );
});

test('records that cannot be understood are refused, and so is another number of replicas', (t) => {
  t.throws(() => readNodeRecords(logOf(written()), 5), {
    code: 'CONFIG',
    message: /replicas of a store cannot be changed/,
  });
  for (const body of ['', 'null', '{"version":0}', '{"version":2}', '{"version":1}', '{']) {
    t.throws(() => readNodeRecords(logOf([body]), 3), { code: 'LOG_CORRUPT' }, body);
    t.throws(() => readNodeRecords(logOf([written()[0] ?? '', body]), 3), { code: 'LOG_CORRUPT' }, body);
  }
  for (const wrong of [
    { birth: 'x' },
    { start: -1 },
    { origin: 'new' },
    { member: 'one' },
    { ids: [0] },
    { ids: 7 },
    { ids: undefined },
  ]) {
    const body = JSON.stringify({ version: 2, ...own, ...wrong });
    t.throws(() => readNodeRecords(logOf([body]), 3), { code: 'LOG_CORRUPT' }, body);
  }
  for (const wrong of [{ place: 4 }, { run: '' }, { position: 0.5 }, { votes: 1, member: undefined }]) {
    const body = JSON.stringify({ version: 2, peers: [{ ...peers[0], ...wrong }] });
    t.throws(() => readNodeRecords(logOf([written()[0] ?? '', body]), 3), { code: 'LOG_CORRUPT' }, body);
  }
});

test('records of newer software are no damage', (t) => {
  for (const bodies of [['{"version":3}'], [written()[0] ?? '', '{"version":3}']]) {
    t.throws(() => readNodeRecords(logOf(bodies), 3), { code: 'LOG_FORMAT', message: /newer software/ });
  }
});

test('a record in place of a damaged one is not gone by', (t) => {
  const damaged = (group: number): CorruptRecord => ({ segment: 1, offset: 64, group, instance: 1 });
  t.throws(() => readNodeRecords(logOf(written(), [damaged(NODE_GROUP)]), 3), {
    code: 'LOG_CORRUPT',
    message: /damaged/,
  });
  t.deepEqual(readNodeRecords(logOf(written(), [damaged(0)]), 3), { own, peers });
});

test('a log with node records alone holds nothing of a Paxos group', (t) => {
  t.false(holdsGroups({ groups: () => [] }));
  t.false(holdsGroups({ groups: () => [NODE_GROUP] }));
  t.true(holdsGroups({ groups: () => [0, NODE_GROUP] }));
});
