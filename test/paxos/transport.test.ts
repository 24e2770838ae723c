import { once } from 'node:events';
import { connect, createServer, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { encodeMessage, type GroupMessage } from '../../src/ts/paxos/codec.js';
import { NO_BALLOT, nextBallot } from '../../src/ts/paxos/core/ballot.js';
import type { Message } from '../../src/ts/paxos/core/types.js';
import { batchValue, commandsOf } from '../../src/ts/paxos/core/value.js';
import { FRAME_BYTES_MAX, frameHead } from '../../src/ts/paxos/frames.js';
import { helloBytes } from '../../src/ts/paxos/handshake.js';
import { type Admission, Incoming } from '../../src/ts/paxos/incoming.js';
import { SEND_QUEUE_BYTES_MAX } from '../../src/ts/paxos/outgoing.js';
import type { Replica } from '../../src/ts/paxos/replicated_log.js';
import type { Report } from '../../src/ts/paxos/report.js';
import { type Introductions, Transport } from '../../src/ts/paxos/transport.js';
import { freePorts, HOST, openDoor, reportOf, silentPeer, until } from './sockets.js';

const CLUSTER = 'test/store/1';
const MEGABYTE = 1024 * 1024;

interface End {
  readonly transport: Transport;
  readonly received: { readonly from: number; readonly received: GroupMessage }[];
  readonly warnings: string[];
}

async function replicasOf(count: number): Promise<Replica[]> {
  return (await freePorts(count)).map((paxos_port, index) => ({ id: index + 1, host: HOST, paxos_port }));
}

async function start(
  t: ExecutionContext,
  replicas: readonly Replica[],
  replica: number,
  groups = 4,
  introductions: Partial<Introductions> = {},
): Promise<End> {
  const received: { from: number; received: GroupMessage }[] = [];
  const warnings: string[] = [];
  const transport = await Transport.start({
    identity: { cluster: CLUSTER, replica, groups },
    replicas,
    listen_host: HOST,
    logger: { info: () => undefined, warn: (line) => warnings.push(line) },
    introductions: { ...openDoor(replica), ...introductions },
    receive: ({ place, birth }, one) => {
      if (birth !== reportOf(place).birth) throw new Error(`replica ${place} introduced itself as another one`);
      received.push({ from: place, received: one });
    },
  });
  t.teardown(() => transport.close());
  return { transport, received, warnings };
}

function connected(end: End, peers: number): Promise<true> {
  return until(() => (end.transport.stats().connected_peers >= peers ? true : undefined));
}

/** An accept of replica 1 with a command of so many bytes. */
function accept(instance: number, bytes: number): Message {
  const ballot = nextBallot(NO_BALLOT, 1);
  const value = batchValue(ballot, [[new Uint8Array(bytes).fill(instance % 256)]]);
  return { type: 'accept', ballot, instance, chosen_through: 0, value };
}

function prepareOf(replica: number): Message {
  return { type: 'prepare', ballot: nextBallot(NO_BALLOT, replica) };
}

/** The ids in it are nothing to the connections. */
function envelope(group: number, message: Message): GroupMessage {
  return { group, from: 17, to: 3, message };
}

/** Sends until something arrives: what is sent before both connections are there is dropped, as it may be. */
async function sendUntilReceived(from: End, to: number, at: End, message: Message): Promise<void> {
  const before = at.received.length;
  await until(() => {
    from.transport.send(to, envelope(0, message));
    from.transport.flush();
    return at.received.length > before ? true : undefined;
  });
}

/** A connection to a replica as one of its peers makes it. */
function dialAs(t: ExecutionContext, replica: Replica, from: number, replicas = 2): Socket {
  const socket = connect(replica.paxos_port, replica.host);
  t.teardown(() => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.write(helloBytes({ cluster: CLUSTER, from, to: replica.id, groups: 4, replicas, report: reportOf(from) }));
  return socket;
}

test('messages arrive whole and, on one connection, in order', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const two = await start(t, replicas, 2);
  await sendUntilReceived(one, 2, two, accept(0, 1));
  two.received.length = 0;
  const sizes = [0, 100, 9 * MEGABYTE, 65_536, 3];
  sizes.forEach((bytes, index) => {
    one.transport.send(2, envelope(index % 4, accept(1_000 + index, bytes)));
  });
  one.transport.flush();
  const wanted = sizes.map((bytes, index) => `1 ${index % 4} ${1_000 + index} ${bytes}`);
  const arrived = await until(() => {
    const lines = two.received.flatMap(({ from, received: { group, message } }) =>
      message.type === 'accept' && message.instance >= 1_000
        ? [`${from} ${group} ${message.instance} ${commandsOf(message.value)[0]?.length}`]
        : [],
    );
    return lines.length >= sizes.length ? lines : undefined;
  });
  t.deepEqual(arrived, wanted);
  t.true(two.transport.stats().received_bytes > 9 * MEGABYTE);
});

test('a peer that comes back is dialled again', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const first = await start(t, replicas, 2);
  await sendUntilReceived(one, 2, first, prepareOf(1));
  await first.transport.close();
  await until(() => (one.transport.stats().connected_peers === 0 ? true : undefined));
  one.transport.send(2, envelope(0, prepareOf(1)));
  t.true(one.transport.stats().dropped_messages > 0, 'nobody is there: dropped, not kept');
  const second = await start(t, replicas, 2);
  await sendUntilReceived(one, 2, second, prepareOf(1));
  t.deepEqual(second.received[0]?.received.message, prepareOf(1));
});

test('a peer that reads nothing costs bounded memory and does not hold up another', async (t) => {
  const replicas = await replicasOf(3);
  const slow = await silentPeer(replicas[2]?.paxos_port ?? 0);
  t.teardown(() => slow.close());
  const one = await start(t, replicas, 1);
  const two = await start(t, replicas, 2);
  await connected(one, 2);
  await until(() => (slow.sockets.length >= 2 ? true : undefined));
  await sendUntilReceived(one, 2, two, accept(0, 1));
  const dropped_before = one.transport.stats().dropped_messages;
  const sent_before = one.transport.stats().sent_bytes;
  const value = accept(1, MEGABYTE);
  for (let message = 0; message < 200; message += 1) {
    one.transport.send(3, envelope(0, value));
    one.transport.flush();
  }
  const { dropped_messages, sent_bytes } = one.transport.stats();
  t.true(dropped_messages - dropped_before > 100);
  t.true(sent_bytes - sent_before <= SEND_QUEUE_BYTES_MAX + 16 * MEGABYTE, 'the socket takes a little on top');
  await sendUntilReceived(one, 2, two, accept(7, 10));
  const last = two.received.at(-1)?.received.message;
  t.is(last?.type === 'accept' ? last.instance : null, 7);
});

test('a frame beyond the limit or with a wrong checksum ends its connection, and only that', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const [first] = replicas;
  if (first === undefined) throw new Error('no replicas');
  const tooLarge = Buffer.alloc(8);
  tooLarge.writeUInt32LE(FRAME_BYTES_MAX + 1);
  const parts = encodeMessage(envelope(0, prepareOf(2)));
  const damaged = Buffer.concat([frameHead(parts), ...parts]);
  damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1);
  const noMessage = Buffer.from('no message');
  for (const [bytes, reason] of [
    [tooLarge, /exceeds the limit/],
    [damaged, /checksum/],
    [Buffer.concat([frameHead([noMessage]), noMessage]), /replica message/],
  ] as const) {
    const socket = dialAs(t, first, 2);
    socket.write(bytes);
    socket.resume();
    await once(socket, 'close');
    t.regex(one.warnings.at(-1) ?? '', reason);
  }
  const two = await start(t, replicas, 2);
  await sendUntilReceived(two, 1, one, prepareOf(2));
  t.deepEqual(
    one.received.map(({ from }) => from).filter((from) => from !== 2),
    [],
  );
});

test('both sides say why a replica is turned away, and do not repeat it', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1, 4);
  const two = await start(t, replicas, 2, 5);
  await until(() => (one.warnings.length >= 2 && two.warnings.length >= 2 ? true : undefined));
  t.regex(one.warnings.join('\n'), /refused a replica connection from .*: this cluster has 4 groups, not 5/);
  t.regex(one.warnings.join('\n'), /replica 2 refused this one: this cluster has 5 groups, not 4/);
  // Several more attempts, on both connections.
  await delay(500);
  t.is(one.warnings.length, 2);
  t.is(one.transport.stats().connected_peers, 0);
});

test('a stranger that talks on and on is cut off', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const [first] = replicas;
  const introduction = helloBytes({ cluster: CLUSTER, from: 2, to: 1, groups: 4, replicas: 2, report: reportOf(2) });
  // One never comes to the end of its introduction, one was turned away and does not hang up.
  const talkers = [introduction.subarray(0, introduction.length - 80), Buffer.from('GET / HTTP/1.1\r\n')].map(
    async (words) => {
      const socket = connect({ port: first?.paxos_port ?? 0, host: HOST, allowHalfOpen: true });
      t.teardown(() => socket.destroy());
      socket.on('error', () => socket.destroy());
      socket.write(words);
      const talk = setInterval(() => socket.write(' '), 100);
      socket.resume();
      await new Promise((resolve) => socket.on('close', resolve));
      clearInterval(talk);
    },
  );
  await t.notThrowsAsync(Promise.all(talkers));
  t.deepEqual(one.received, []);
});

test('connections to a peer that answers nothing are made anew', async (t) => {
  const replicas = await replicasOf(2);
  const silent = await silentPeer(replicas[1]?.paxos_port ?? 0);
  t.teardown(() => silent.close());
  const one = await start(t, replicas, 1);
  await until(() => (silent.sockets.length >= 2 ? true : undefined));
  // As after a network that swallowed packets: nothing comes, nothing fails.
  await until(() => (silent.sockets.length >= 4 ? true : undefined));
  t.regex(one.warnings.join('\n'), /replica 2 does not answer; connecting anew/);
});

test('a peer that is there answers, and its connections stay', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const two = await start(t, replicas, 2);
  await connected(one, 1);
  await connected(two, 1);
  const { received_bytes } = two.transport.stats();
  await until(() => (two.transport.stats().received_bytes >= received_bytes + 5 * 8 ? true : undefined));
  t.deepEqual([...one.warnings, ...two.warnings], []);
  t.is(one.transport.stats().connected_peers, 1);
  t.deepEqual(two.received, [], 'probes are nobody else’s business');
});

test('a peer that answers an introduction with endless nonsense is left', async (t) => {
  const [own = 0, port = 0] = await freePorts(2);
  const closed: Promise<unknown>[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    closed.push(once(socket, 'close'));
    socket.resume();
    socket.write(Buffer.alloc(64 * 1024, 'x'));
  }).listen(port, HOST);
  await once(server, 'listening');
  t.teardown(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const replicas = [own, port].map((paxos_port, index) => ({ id: index + 1, host: HOST, paxos_port }));
  const one = await start(t, replicas, 1);
  await until(() => (closed.length > 2 ? true : undefined));
  await Promise.all(closed.slice(0, 2));
  t.is(one.transport.stats().connected_peers, 0);
});

test('a port that is taken is a clear error, and nothing is left running', async (t) => {
  const replicas = await replicasOf(2);
  await start(t, replicas, 1);
  const error = await t.throwsAsync(start(t, replicas, 1), { code: 'CONFIG' });
  t.regex(error.message, /cannot listen on paxos port 127\.0\.0\.1:\d+: .*EADDRINUSE/);
});

test('an error of the receiver is not taken for a malformed message', (t) => {
  const incoming = new Incoming({
    replicas: 2,
    refusal: () => null,
    admit: (_hello, answer) => answer({ type: 'welcome', report: reportOf(1) }),
    status: () => null,
    receive: () => {
      throw new PhxError('PROTOBUF_PARSE', 'a command that the state machine cannot read');
    },
    warn: () => undefined,
  });
  const socket = new Socket();
  t.teardown(() => socket.destroy());
  incoming.accept(socket);
  socket.emit('data', helloBytes({ cluster: CLUSTER, from: 2, to: 1, groups: 4, replicas: 2, report: reportOf(2) }));
  const parts = encodeMessage(envelope(0, prepareOf(2)));
  t.throws(() => socket.emit('data', Buffer.concat([frameHead(parts), ...parts])), { code: 'PROTOBUF_PARSE' });
});

test('a caller of version 1 is refused with a reason', async (t) => {
  const replicas = await replicasOf(2);
  const one = await start(t, replicas, 1);
  const socket = connect(replicas[0]?.paxos_port ?? 0, HOST);
  t.teardown(() => socket.destroy());
  const body = Buffer.from(
    JSON.stringify({ version: 1, cluster: CLUSTER, from: 2, to: 1, groups: 4, credentials: '' }),
  );
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  socket.write(Buffer.concat([Buffer.from('PHXPAXOS'), length, body]));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close');
  t.is(
    Buffer.concat(chunks).toString(),
    '\0protocol version 1, this is 3: the replicas of a store are updated together',
  );
  t.is(one.warnings.length, 1);
});

test('a caller is let in only when it is remembered, and both sides learn who the other one is', async (t) => {
  const replicas = await replicasOf(2);
  const waiting: ((admission: Admission) => void)[] = [];
  const met: string[] = [];
  const one = await start(t, replicas, 1, 4, {
    admit: (place, report, answer) => {
      met.push(`${place} ${report.birth}`);
      waiting.push(answer);
    },
  });
  const welcomes: string[] = [];
  const two = await start(t, replicas, 2, 4, {
    welcomed: (place, report, told) => {
      welcomes.push(`${place} ${report.birth} ${told.birth}`);
      return null;
    },
  });
  await until(() => (waiting.length >= 2 ? true : undefined));
  await connected(one, 1);
  t.is(two.transport.stats().connected_peers, 0);
  t.deepEqual(welcomes, []);
  for (const answer of waiting) answer({ type: 'welcome', report: reportOf(1) });
  await connected(two, 1);
  t.deepEqual(welcomes, [`1 ${reportOf(1).birth} ${reportOf(2).birth}`]);
  t.deepEqual(new Set(met), new Set([`2 ${reportOf(2).birth}`]));
});

test('a caller that gets no answer in time is cut off, and too many wait for none', async (t) => {
  const replicas = await replicasOf(2);
  let asked = 0;
  await start(t, replicas, 1, 4, {
    admit: () => {
      asked += 1;
    },
  });
  const [first] = replicas;
  if (first === undefined) throw new Error('no replicas');
  const callers = Array.from({ length: 80 }, () => dialAs(t, first, 2));
  for (const caller of callers) caller.resume();
  await Promise.all(callers.map((caller) => new Promise((resolve) => caller.on('close', resolve))));
  t.is(asked, 64);
});

test('an old folder is told so, with the introduction that it was told for', async (t) => {
  const replicas = await replicasOf(2);
  await start(t, replicas, 1, 4, { admit: (_place, _report, answer) => answer({ type: 'old', reason: 'old' }) });
  const found: string[] = [];
  let birth = 2;
  const two = await start(t, replicas, 2, 4, {
    report: () => reportOf(birth),
    foundOld: (place, told) => {
      found.push(`${place} ${told.birth}`);
      birth += 1;
    },
  });
  await until(() => (found.length >= 3 ? true : undefined));
  t.deepEqual(
    found.slice(0, 3),
    [2, 3, 4].map((seed) => `1 ${reportOf(seed).birth}`),
    'once for each birth',
  );
  t.is(two.transport.stats().connected_peers, 0);
});

test('what a replica is now is told on its connection, and whom it should not talk to is left', async (t) => {
  const replicas = await replicasOf(2);
  const heard: Report[] = [];
  let objection: string | null = null;
  const one = await start(t, replicas, 1, 4, {
    heard: (_place, report) => {
      heard.push(report);
      return objection;
    },
  });
  let report = reportOf(2);
  const two = await start(t, replicas, 2, 4, { report: () => report });
  await connected(two, 1);
  report = reportOf(2, { position: 7, agreed: [null, reportOf(2).birth] });
  two.transport.tell();
  await until(() => (heard.some(({ position }) => position === 7) ? true : undefined));
  t.deepEqual(
    heard.find(({ position }) => position === 7),
    report,
  );
  objection = 'it is another one';
  two.transport.tell();
  await until(() => (one.warnings.length > 0 ? true : undefined));
  t.is(one.warnings[0], 'replica 2: it is another one; closing the connection');
});

test('who introduces itself anew is asked anew by its callers who it is', async (t) => {
  const replicas = await replicasOf(2);
  let now = reportOf(1);
  const told: string[] = [];
  const one = await start(t, replicas, 1, 4, {
    report: () => now,
    admit: (_place, _report, answer) => answer({ type: 'welcome', report: now }),
  });
  await start(t, replicas, 2, 4, {
    welcomed: (_place, { birth }) => {
      told.push(birth);
      return null;
    },
  });
  await until(() => (told.includes(now.birth) ? true : undefined));
  now = reportOf(5);
  one.transport.reintroduce();
  await until(() => (told.includes(now.birth) ? true : undefined));
  t.is(told.at(-1), now.birth);
});
