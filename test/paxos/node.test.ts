import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { helloBytes } from '../../src/ts/paxos/handshake.js';
import { type Identity, logIdentity } from '../../src/ts/paxos/identity.js';
import { PaxosNode } from '../../src/ts/paxos/node.js';
import type { Command, Replica, StateMachine } from '../../src/ts/paxos/replicated_log.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { freePorts, HOST, until } from './sockets.js';

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
  /** By how much the wall clock of all was set ahead. */
  wall_ahead_ms = 0;
  readonly masterless: number[] = [];
  readonly warnings: string[] = [];
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
        folder: join(this.folder, String(replica)),
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
        propose_timeout_ms: 20_000,
        clock: { monotonic_ms: () => performance.now(), wall_ms: () => Date.now() + this.wall_ahead_ms },
        logger: { info: () => undefined, warn: (line) => this.warnings.push(line) },
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
  await three.start(1, 2);
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
  t.regex(three.warnings.join('\n'), /the wall clock jumped by 3600000 ms/);
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
  ] as const) {
    const socket = connect(first?.paxos_port ?? 0, HOST);
    socket.write(helloBytes({ cluster: 'test/store/1', from: 2, to: 1, groups: 2, ...change }));
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
