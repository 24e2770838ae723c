// Goal: wal_tool dump prints what is asked for, whole, explains what a store wrote, and ends when nobody reads on.
// Method: real runs; the bodies are made by the code that a store makes them with.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import { ballotFrom } from '../../src/ts/paxos/core/ballot.js';
import { batchValue, noopValue } from '../../src/ts/paxos/core/value.js';
import { recordOf } from '../../src/ts/paxos/records.js';
import { encodeAdd, encodeCursors } from '../../src/ts/store/command.js';
import { addBody, testItem } from '../store/requests.js';
import { entry, state } from '../wal/fixture.js';
import { closedLog, program, walTool } from './wal_tool_fixture.js';

async function dumped(folder: string, ...options: string[]) {
  const run = await walTool('dump', folder, ...options);
  return run.lines.map((line) => JSON.parse(line));
}

test('filters and forms of bodies', async (t) => {
  const odd = Buffer.from([0xff, 0x22, 0x5c, 0x0a, 0xe2, 0x82, 0xac]);
  const long = Buffer.alloc(150_001, '€"');
  const appends = [
    [entry(1, 1, 'one'), state(1, 0, 'promise'), entry(2, 1, '')],
    [entry(1, 2, odd), entry(1, 3, long)],
  ];
  const folder = await closedLog(t, appends, 512 * 1024);
  const keys = async (...options: string[]) => {
    return (await dumped(folder, ...options)).map(({ kind, group, instance }) => `${kind} ${group} ${instance}`);
  };
  t.deepEqual(await keys('--group', '2'), ['entry 2 1']);
  t.deepEqual(await keys('--kind', 'state'), ['state 1 0']);
  t.deepEqual(await keys('--kind', 'entry', '--group', '1', '--from', '2'), ['entry 1 2', 'entry 1 3']);
  t.deepEqual(await keys('--from', '1', '--through', '1'), ['entry 1 1', 'entry 2 1']);
  const [none] = await dumped(folder);
  t.false('body' in none);
  for (const form of ['hex', 'base64', 'text'] as const) {
    const bodies = (await dumped(folder, '--bodies', form)).map(({ body }) => body);
    const expected = ['one', 'promise', '', odd, long].map((body) => {
      return Buffer.from(body).toString(form === 'text' ? 'utf8' : form);
    });
    t.deepEqual(bodies, expected, form);
  }
});

test('what a store wrote is explained, and what is not known is said to be so', async (t) => {
  const ballot = ballotFrom(5 * 65536 + 2);
  const add = encodeAdd(1_700_000_000_123, addBody(3, [testItem('paid'), testItem('due', { pub_id: 4 })]));
  const updates = [{ queue_id: 3, consumer_group: 1, prev: 99 }];
  const write = (instance: number, value: Uint8Array) => {
    return recordOf(0, { type: 'entry', instance, ballot, chosen_through: instance - 1, value });
  };
  const foreign = [Buffer.from([9, 1, 0])];
  const newer = noopValue(ballot);
  newer[0] = 7;
  const broken = encodeAdd(1, Buffer.from([0xff, 0xff, 0xff]));
  const appends = [
    [recordOf(0, { type: 'promise', ballot }), recordOf(0, { type: 'longest_grant', lease_ms: 400 })],
    [write(1, batchValue(ballot, [add, encodeCursors(updates), foreign, broken])), write(2, noopValue(ballot))],
    [write(3, newer), write(4, new Uint8Array(3)), entry(0, 5, 'short'), entry(0, 6, 'x'.repeat(40)), state(0, 9, '')],
  ];
  const folder = await closedLog(t, appends);
  const decoded = (await dumped(folder, '--decode')).map((record) => record.decoded);
  const number = { number: 327682, round: 5, replica: 2 };
  t.deepEqual(decoded[0], { type: 'promise', ballot: number });
  t.deepEqual(decoded[1], { type: 'longest_grant', lease_ms: 400 });
  const { value, ...entry_1 } = decoded[2];
  t.deepEqual(entry_1, { ballot: number, chosen_through: 0 });
  const { commands, ...batch } = value;
  t.deepEqual(batch, { type: 'batch', origin: number });
  t.like(commands[0], { type: 'add', timestamp_ms: 1_700_000_000_123, topic_id: 1000, store_id: 1, queue_id: 3 });
  t.like(commands[0].items[0], { topic_id: 1000, pub_id: 1, handle_id: 2, uin: '7', atime_ms: 5, count: 0 });
  t.is(commands[0].items[1].pub_id, 4);
  t.deepEqual(commands[1], { type: 'cursors', updates });
  t.regex(commands[2].unknown, /command of kind 9 version 1 is unknown here/);
  t.is(typeof commands[3].unknown, 'string');
  t.deepEqual(decoded[3].value, { type: 'noop', origin: number, commands: [] });
  t.regex(decoded[4].value.unknown, /value of unknown kind 7/);
  t.regex(decoded[5].value.unknown, /3 bytes that no release writes/);
  t.regex(decoded[6].unknown, /entry 5 of 5 bytes/);
  t.is(decoded[7].unknown, 'no entry of a store');
  t.is(decoded[8].unknown, 'state slot 9');
});

test('a reader that goes away ends it quietly; one that is slow loses nothing', async (t) => {
  const instances = Array.from({ length: 2000 }, (_, index) => index + 1);
  const folder = await closedLog(
    t,
    instances.map((instance) => [entry(1, instance, Buffer.alloc(1000, instance))]),
    256 * 1024,
  );
  const start = () => {
    const args = [program, 'dump', folder, '--bodies', 'hex'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    return { child, closed: once(child, 'close').then(([status]) => ({ status, errors })) };
  };
  const left = start();
  await once(left.child.stdout, 'data');
  left.child.stdout.destroy();
  t.deepEqual(await left.closed, { status: 0, errors: '' });

  const slow = start();
  let text = '';
  for await (const chunk of slow.child.stdout.setEncoding('utf8')) {
    text += chunk;
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.deepEqual(await slow.closed, { status: 0, errors: '' });
  const entries = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ kind }) => kind === 'entry');
  t.deepEqual(
    entries.map(({ instance }) => instance),
    instances,
  );
  t.true(entries.every(({ instance, body }) => body === Buffer.alloc(1000, instance).toString('hex')));
});
