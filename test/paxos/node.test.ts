import { once } from 'node:events';
import { cpSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { NO_BALLOT, nextBallot } from '../../src/ts/paxos/core/ballot.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { helloBytes } from '../../src/ts/paxos/handshake.js';
import { type Identity, logIdentity } from '../../src/ts/paxos/identity.js';
import { PaxosNode } from '../../src/ts/paxos/node.js';
import { recordOf } from '../../src/ts/paxos/records.js';
import type { Command, Replica, StateMachine } from '../../src/ts/paxos/replicated_log.js';
import { PROCESS_RUNTIME } from '../../src/ts/paxos/runtime.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { freePorts, HOST, reportOf, until } from './sockets.js';

/** The command at which a recorder fails. */
const POISON = Buffer.from('poison');

/** Remembers what it applied. */
class Recorder implements StateMachine {
  readonly applied: string[] = [];

  apply(_group: number, _instance: number, commands: readonly Command[]): readonly unknown[] {
    return commands.map(({ bytes }) => {
      if (Buffer.from(bytes).equals(POISON)) throw new Error('cannot be applied');
      this.applied.push(Buffer.from(bytes).toString());
      return this.applied.length;
    });
  }

  /** It remembers every command in its snapshot, so nothing of the log is needed. */
  snapshot(): Uint8Array[] {
    return [Buffer.from(JSON.stringify(this.applied))];
  }

  retention(): Uint8Array[] {
    return [];
  }

  firstNeeded(): number {
    return Number.POSITIVE_INFINITY;
  }

  restore(group: number, snapshot: Uint8Array): void {
    if (group !== 0) return;
    this.applied.splice(0, this.applied.length, ...JSON.parse(Buffer.from(snapshot).toString()));
  }

  reindex(): void {
    throw new Error('nothing is needed');
  }
}

interface Running {
  readonly node: PaxosNode;
  readonly log: LogEngine;
  readonly recorder: Recorder;
}

/** Three replicas in this process, over real sockets and files. */
class Cluster {
  readonly folder: string;
  readonly replicas: readonly Replica[];
  readonly running = new Map<number, Running>();
  groups = 2;
  core = DEFAULT_CORE_OPTIONS;
  /** Every instance is worth a checkpoint, nothing is held for others. */
  checkpoints = { instances_min: 1, bytes_min: 1, held_instances_max: 0, held_bytes_max: 0 };
  /** By how much the wall clock of all was set ahead. */
  wall_ahead_ms = 0;
  readonly masterless: number[] = [];
  readonly warnings: string[] = [];
  readonly infos: string[] = [];
  readonly failures: Error[] = [];
  failures_expected = 0;

  constructor(folder: string, replicas: readonly Replica[]) {
    this.folder = folder;
    this.replicas = replicas;
  }

  identity(replica: number): Identity {
    return { cluster: 'test/store/1', replica, groups: this.groups };
  }

  async start(...replicas: number[]): Promise<void> {
    for (const replica of replicas) {
      const identity = this.identity(replica);
      const log = await openLog({
        engine: 'portable',
        folder: this.folderOf(replica),
        identity: logIdentity(identity),
      });
      const recorder = new Recorder();
      const node = await PaxosNode.start({
        identity,
        replicas: this.replicas,
        listen_host: HOST,
        log,
        stateMachine: recorder,
        core: this.core,
        checkpoints: this.checkpoints,
        propose_timeout_ms: 20_000,
        runtime: { ...PROCESS_RUNTIME, wall_ms: () => Date.now() + this.wall_ahead_ms },
        logger: { info: (line) => this.infos.push(line), warn: (line) => this.warnings.push(line) },
        onNoMaster: () => this.masterless.push(replica),
        onFailure: (error) => this.failures.push(error),
      });
      this.running.set(replica, { node, log, recorder });
    }
  }

  async stop(...replicas: number[]): Promise<void> {
    for (const replica of replicas) {
      const { node, log } = this.at(replica);
      this.running.delete(replica);
      await node.close();
      await log.close();
    }
  }

  folderOf(replica: number): string {
    return join(this.folder, String(replica));
  }

  at(replica: number): Running {
    const running = this.running.get(replica);
    if (running === undefined) throw new Error(`replica ${replica} does not run`);
    return running;
  }

  async master(): Promise<number> {
    return until(() => [...this.running].find(([, { node }]) => node.mastership(0).role === 'master')?.[0]);
  }

  /** Proposes at whoever leads until it succeeds. */
  async propose(text: string): Promise<void> {
    for (;;) {
      const { node } = this.at(await this.master());
      try {
        await node.propose(0, [Buffer.from(text)]);
        return;
      } catch (error) {
        if (!(error instanceof PhxError) || !error.retryable) throw error;
      }
    }
  }
}

async function cluster(t: ExecutionContext): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-node-'));
  const ports = await freePorts(3);
  const replicas = ports.map((paxos_port, index) => ({ id: index + 1, host: HOST, paxos_port }));
  const made = new Cluster(folder, replicas);
  t.teardown(async () => {
    await made.stop(...made.running.keys());
    if (made.failures.length !== made.failures_expected) throw new Error(`failures: ${made.failures.join('; ')}`);
    rmSync(folder, { recursive: true, force: true });
  });
  return made;
}

/** Waits until a replica votes. */
async function votes(three: Cluster, replica: number): Promise<void> {
  await until(() => (three.at(replica).node.obstacle === '' ? true : undefined));
}

const all = [1, 2, 3] as const;

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

test('a replica that needs what the log no longer has gets nothing, and the others say so', async (t) => {
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
  await until(() => (three.warnings.some((line) => /replica 3 needs more/.test(line)) ? true : undefined));
  t.true(three.at(3).recorder.applied.length < 3);
  t.regex(three.warnings.join('\n'), /group \d: replica 3 needs more than the log has, which begins at \d+/);
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
  three.core = { ...DEFAULT_CORE_OPTIONS, window_max: 64 };
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

/** A folder as software left it that kept no node records: with a promise. */
async function voteAsBefore(three: Cluster, replica: number): Promise<void> {
  const identity = logIdentity(three.identity(replica));
  const log = await openLog({ engine: 'portable', folder: three.folderOf(replica), identity });
  const record = recordOf(0, { type: 'promise', ballot: nextBallot(NO_BALLOT, replica) });
  await new Promise<void>((resolve, reject) => {
    log.append([record], (error) => (error === null ? resolve() : reject(error)));
  });
  await log.close();
}

test('folders that voted before there were node records go on, and a new one among them joins', async (t) => {
  const three = await cluster(t);
  await voteAsBefore(three, 1);
  await voteAsBefore(three, 2);
  await three.start(1, 2);
  await three.propose('as before');
  t.is(three.infos.filter((line) => /made before clusters kept records of who founded them/.test(line)).length, 2);
  await three.start(3);
  await votes(three, 3);
  t.regex(three.warnings.join('\n'), /its folder was empty, but the cluster exists/);
  await three.stop(1);
  await three.propose('with the new one');
  await three.start(1);
  await three.stop(...all);
  // Said once: from now on they have records.
  three.infos.length = 0;
  await three.start(1, 2);
  await three.propose('and again');
  t.deepEqual(
    three.infos.filter((line) => line.includes('made before')),
    [],
  );
});

test('a replica that votes on an old folder gives up its vote when one that remembers more is back', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  await three.propose('one');
  await three.stop(3);
  const copy = `${three.folderOf(3)}.copy`;
  cpSync(three.folderOf(3), copy, { recursive: true });
  // Only replica 2 sees the second start of replica 3.
  await three.stop(1);
  await three.start(3);
  await until(() => (three.at(3).node.obstacle === '' ? true : undefined));
  await three.stop(2, 3);
  rmSync(three.folderOf(3), { recursive: true });
  cpSync(copy, three.folderOf(3), { recursive: true });
  await three.start(1, 3);
  await until(() => (three.at(3).node.obstacle === '' ? true : undefined));
  await three.start(2);
  const { node } = three.at(3);
  await until(() => (three.warnings.includes('this replica gives up its vote') ? true : undefined));
  await until(() =>
    three.infos.includes('this replica is a member of all groups, in its own place') ? true : undefined,
  );
  t.regex(three.warnings.join('\n'), /its folder is older than what it had told the others/);
  await votes(three, 3);
  await three.stop(1);
  await three.propose('two');
  await until(() => (node.appliedThrough(0) >= three.at(2).node.appliedThrough(0) ? true : undefined));
  t.deepEqual(three.at(3).recorder.applied, ['one', 'two']);
});

test('a replica that lost its disk gets a vote of its own, and then another may lose its disk', async (t) => {
  const three = await cluster(t);
  await three.start(...all);
  const texts: string[] = [];
  const add = async (text: string): Promise<void> => {
    texts.push(text);
    await three.propose(text);
  };
  await add('first');
  for (const lost of [3, 1, 2]) {
    await three.stop(lost);
    rmSync(three.folderOf(lost), { recursive: true });
    await add(`without ${lost}`);
    await three.start(lost);
    await votes(three, lost);
    await until(() => (three.at(lost).recorder.applied.length === texts.length ? true : undefined));
    t.deepEqual(three.at(lost).recorder.applied, texts);
    t.regex(three.infos.join('\n'), new RegExp(`member \\d+ .* takes the place of ${lost} at replica ${lost}`));
  }
  await three.stop(...all);
  await three.start(...all);
  await add('last');
  for (const replica of all) {
    const { recorder } = three.at(replica);
    await until(() => (recorder.applied.length === texts.length ? true : undefined));
    t.deepEqual(recorder.applied, texts);
  }
});

test('a replica that is stopped while it joins goes on, and its predecessor is old when its folder is put back', async (t) => {
  const three = await cluster(t);
  three.groups = 20;
  await three.start(...all);
  await three.propose('one');
  await three.stop(3);
  const predecessor = `${three.folderOf(3)}.predecessor`;
  renameSync(three.folderOf(3), predecessor);
  await three.start(3);
  await until(() => (/it is one in [1-9]\d* of 20 groups/.test(three.at(3).node.obstacle) ? true : undefined));
  t.is(three.at(3).node.votes, false);
  await three.stop(3);
  await three.propose('two');
  await three.start(3);
  await votes(three, 3);
  await three.propose('three');
  await three.stop(3);
  rmSync(three.folderOf(3), { recursive: true });
  renameSync(predecessor, three.folderOf(3));
  await three.start(3);
  await votes(three, 3);
  t.regex(three.warnings.join('\n'), /another folder votes in its place/);
  await three.stop(2);
  await three.propose('four');
  await until(() => (three.at(3).recorder.applied.length === 4 ? true : undefined));
  t.deepEqual(three.at(3).recorder.applied, ['one', 'two', 'three', 'four']);
});

test('a folder that some groups have replaced hears it from them, and gives up its vote in all', async (t) => {
  const three = await cluster(t);
  three.groups = 20;
  await three.start(...all);
  await three.propose('one');
  await three.stop(3);
  const predecessor = `${three.folderOf(3)}.predecessor`;
  renameSync(three.folderOf(3), predecessor);
  await three.start(3);
  await until(() => (/it is one in [1-9]\d* of 20 groups/.test(three.at(3).node.obstacle) ? true : undefined));
  await three.stop(3);
  rmSync(three.folderOf(3), { recursive: true });
  renameSync(predecessor, three.folderOf(3));
  three.infos.length = 0;
  await three.start(3);
  const enrolled = 'this replica is a member of all groups, in its own place';
  await until(() => (three.infos.includes(enrolled) ? true : undefined));
  await votes(three, 3);
  t.regex(three.warnings.join('\n'), /another folder has taken its place meanwhile/);
});
