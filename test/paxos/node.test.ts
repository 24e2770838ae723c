import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { helloBytes } from '../../src/ts/paxos/handshake.js';
import { all, cluster, POISON } from './node_cluster.js';
import { HOST, reportOf, until } from './sockets.js';

test('what is proposed is applied by all, in one order', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  const texts = Array.from({ length: 200 }, (_, index) => `command ${index}`);
  const { node } = three.at(await three.master());
  const applied = await Promise.all(texts.map((text) => node.propose(0, [Buffer.from(text)])));
  t.deepEqual(
    applied.map(({ result }) => result),
    texts.map((_, index) => index + 1),
    'each proposer gets its own result',
  );
  for (const replica of all) {
    const { recorder } = three.at(replica);
    await until(() => (recorder.applied.length === texts.length ? true : undefined));
    t.deepEqual(recorder.applied, texts);
  }
});

test('two of three go on without the master, and it catches up when it is back', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  await three.propose('one');
  const first = await three.master();
  await three.stop(first);
  await three.propose('two');
  t.not(await three.master(), first);
  await three.start(first);
  const { recorder } = three.at(first);
  await until(() => (recorder.applied.length >= 2 ? true : undefined));
  t.deepEqual(recorder.applied, ['one', 'two']);
});

test('everything is there again after all were stopped', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  for (const text of ['a', 'b', 'c']) await three.propose(text);
  await three.stop(...all);
  await three.start(...all);
  await three.propose('d');
  const { node, recorder } = three.at(await three.master());
  t.deepEqual(recorder.applied, ['a', 'b', 'c', 'd']);
  const value = await node.value(0, node.appliedThrough(0));
  t.true(Buffer.from(value).includes('d'));
});

test('behind a checkpoint the log is gone, and all were started again from it', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  for (const text of ['a', 'b', 'c']) await three.propose(text);
  for (const replica of all) {
    const { node, log, recorder } = three.at(replica);
    await until(() => (recorder.applied.length === 3 ? true : undefined));
    t.true((await node.checkpoint()) >= 1);
    const { checkpoint, first_retained } = node.status(0);
    t.is(checkpoint, node.appliedThrough(0));
    t.is(first_retained, checkpoint + 1);
    t.is(log.bounds(0), null);
  }
  await three.propose('d');
  await three.stop(...all);
  await three.start(...all);
  await three.propose('e');
  const { recorder } = three.at(await three.master());
  t.deepEqual(recorder.applied, ['a', 'b', 'c', 'd', 'e']);
});

test('a replica that needs what the log no longer has gets a checkpoint, and goes on behind it', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  await three.propose('a');
  await three.stop(3);
  for (const text of ['b', 'c']) await three.propose(text);
  for (const replica of [1, 2]) {
    const { node, recorder } = three.at(replica);
    await until(() => (recorder.applied.length === 3 ? true : undefined));
    await node.checkpoint();
  }
  await three.start(3);
  await three.propose('d');
  const { node, recorder } = three.at(3);
  await until(() => (recorder.applied.length === 4 ? true : undefined));
  t.deepEqual(recorder.applied, ['a', 'b', 'c', 'd']);
  t.regex(three.infos.join('\n'), /group \d: goes on behind the checkpoint of instance \d+/);
  t.is(node.status(0).first_retained, node.status(0).checkpoint + 1);
  // It has a vote again.
  await three.stop(await until(() => [1, 2].find((id) => three.at(id).node.mastership(0).role !== 'master')));
  await three.propose('e');
  await until(() => (recorder.applied.length === 5 ? true : undefined));
});

test('a node whose checkpoint fails stops', async (t) => {
  const three = await cluster(t);
  three.failures_expected = 1;
  await three.start(...all);
  await three.propose('a');
  const { node, recorder } = three.at(1);
  await until(() => (recorder.applied.length === 1 ? true : undefined));
  recorder.snapshot = () => {
    throw new Error('cannot be written');
  };
  t.is(await node.checkpoint(), 0);
  t.is(three.failures[0]?.message, 'cannot be written');
  t.deepEqual(node.mastership(0), { role: 'unknown' });
});

test('a master hands over on request: another one leads before its lease is over, and it goes on as a follower', async (t) => {
  const three = await cluster(t);
  // Longer than a test waits.
  three.core = { ...DEFAULT_CORE_OPTIONS, lease_ms: 60_000, lease_margin_ms: 3_000, transfer_timeout_ms: 60_000 };
  await three.start(...all);
  await three.propose('one');
  const first = await three.master();
  const { node, recorder } = three.at(first);
  // A group that nobody leads yet might be its own later.
  await until(() => {
    const nodes = [...three.running.values()].map((running) => running.node);
    return [0, 1].every((group) => nodes.some((any) => any.mastership(group).role === 'master')) ? true : undefined;
  });
  t.true((await node.handOver()) >= 1);
  t.not(await three.master(), first);
  t.is(node.mastership(0).role, 'follower');
  await three.propose('two');
  await until(() => (recorder.applied.length === 2 ? true : undefined));
  t.is(await node.handOver(), 0, 'it leads nothing any more');
});

test('one of three serves nothing and says so', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  await three.propose('kept');
  await three.stop(2, 3);
  const { node } = three.at(1);
  await until(() => (node.mastership(0).role === 'master' ? undefined : true));
  await until(() => (three.masterless.includes(1) ? true : undefined));
  const error = await t.throwsAsync(node.propose(0, [Buffer.from('refused')]), { instanceOf: PhxError });
  t.true(['NO_MASTER', 'NOT_MASTER', 'PROPOSE_TIMEOUT'].includes(error.code), error.code);
});

test('one turn may bring more than a segment of the log holds', async (t) => {
  const three = await cluster(t);
  // Two replicas lead five groups, so one of them leads three: 72 MiB at once, a segment has 64.
  three.groups = 5;
  three.core = { ...DEFAULT_CORE_OPTIONS, window_max: 64, lease_ms: 2_000, heartbeat_ms: 400 };
  await three.start(...all);
  await three.propose('formed');
  await three.stop(3);
  const leaders = await until(() => {
    const found = [0, 1, 2, 3, 4].map((group) =>
      [1, 2].find((id) => three.at(id).node.mastership(group).role === 'master'),
    );
    return found.every((id) => id !== undefined) ? found : undefined;
  });
  const megabyte = Buffer.alloc(1024 * 1024, 'x');
  const proposals = leaders.flatMap((id, group) =>
    Array.from({ length: 24 }, () => three.at(id ?? 0).node.propose(group, [megabyte])),
  );
  // On a busy machine so many bytes may cost a lease and with it time, but neither the process nor the data.
  for (const outcome of await Promise.allSettled(proposals)) {
    if (outcome.status === 'rejected') t.true(outcome.reason instanceof PhxError && outcome.reason.retryable);
  }
  await three.propose('small');
  const { recorder } = three.at(await three.master());
  t.true(recorder.applied.includes('small'));
});

test('a master whose machine slept is none until its lease was renewed', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  const { node } = three.at(await three.master());
  // Seen from inside: the wall clock is an hour further, the monotonic one is not.
  three.wall_ahead_ms = 3_600_000;
  t.not(node.mastership(0).role, 'master');
  t.regex(three.warnings.join('\n'), /the wall clock jumped by (?:3600|3599)\d{3} ms/);
  await three.propose('after the jump');
  t.pass();
});

test('a proposal that waits when the node closes is rejected', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  const { node } = three.at(await three.master());
  const proposal = node.propose(0, [Buffer.from('late')]);
  const rejected = t.throwsAsync(proposal, { code: 'CLOSED' });
  await node.close();
  await rejected;
  await t.throwsAsync(node.propose(0, [Buffer.from('later')]), { code: 'CLOSED' });
});

test('a replica whose state machine fails says nothing any more', async (t) => {
  const three = await cluster(t);
  three.failures_expected = 1;
  await three.start(...all);
  const master = await three.master();
  await three.stop(...all.filter((id) => id !== master).slice(0, 1));
  const { node } = three.at(await three.master());
  const poisoned = node.propose(0, [POISON]);
  await t.throwsAsync(poisoned, { code: 'CLOSED' });
  t.is(three.failures[0]?.message, 'cannot be applied');
  t.not(node.mastership(0).role, 'master');
  await t.throwsAsync(node.propose(0, [Buffer.from('later')]), { code: 'CLOSED' });
});

test('a replica of another cluster, with another number of groups or an unknown number is turned away', async (t) => {
  const three = await cluster(t);
  await three.start(1);
  const [first] = three.replicas;
  for (const [change, reason] of [
    [{ cluster: 'other/store/1' }, /other\/store\/1/],
    [{ groups: 7 }, /7/],
    [{ from: 9 }, /9/],
    [{ to: 2 }, /2/],
    [{ replicas: 5 }, /5/],
  ] as const) {
    const socket = connect(first?.paxos_port ?? 0, HOST);
    const hello = { cluster: 'test/store/1', from: 2, to: 1, groups: 2, replicas: 3, report: reportOf(2) };
    socket.write(helloBytes({ ...hello, ...change }));
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(socket, 'close');
    const answer = Buffer.concat(chunks);
    t.is(answer[0], 0, 'refused');
    t.regex(answer.toString('utf8', 1), reason);
  }
});

test('a stranger on the paxos port is turned away at once', async (t) => {
  const three = await cluster(t);
  await three.start(1);
  const socket = connect(three.replicas[0]?.paxos_port ?? 0, HOST);
  socket.on('data', () => undefined);
  socket.write('POST / HTTP/1.0\r\n\r\n');
  await t.notThrowsAsync(once(socket, 'close'));
});
