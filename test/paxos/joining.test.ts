/** Replicas without a vote that get one, over real sockets and files. One test at a time: they wait for many syncs. */
import { once } from 'node:events';
import { cpSync, renameSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import test from 'ava';
import { NO_BALLOT, nextBallot } from '../../src/ts/paxos/core/ballot.js';
import { helloBytes } from '../../src/ts/paxos/handshake.js';
import { logIdentity } from '../../src/ts/paxos/identity.js';
import { readNodeRecords } from '../../src/ts/paxos/node_records.js';
import { recordOf } from '../../src/ts/paxos/records.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { all, type Cluster, cluster, votes } from './node_cluster.js';
import { HOST, until } from './sockets.js';

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

test.serial('folders that voted before there were node records go on, and a new one among them joins', async (t) => {
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

test.serial(
  'a replica that votes on an old folder gives up its vote when one that remembers more is back',
  async (t) => {
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
  },
);

test.serial('a replica that lost its disk gets a vote of its own, and then another may lose its disk', async (t) => {
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

/** Ten groups, some of which have already replaced the member at place 3; returns where the folder of that one is. */
async function joiningAt3(three: Cluster): Promise<string> {
  three.groups = 10;
  await three.start(...all);
  await three.propose('one');
  await three.stop(3);
  const predecessor = `${three.folderOf(3)}.predecessor`;
  renameSync(three.folderOf(3), predecessor);
  await three.start(3);
  await until(() => (/it is one in [1-9]\d* of 10 groups/.test(three.at(3).node.obstacle) ? true : undefined));
  return predecessor;
}

test.serial(
  'a replica that is stopped while it joins goes on, and its predecessor is old when its folder is put back',
  async (t) => {
    const three = await cluster(t);
    const predecessor = await joiningAt3(three);
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
  },
);

test.serial('a folder that some groups have replaced hears it from them, and gives up its vote in all', async (t) => {
  const three = await cluster(t);
  const predecessor = await joiningAt3(three);
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

/** Tells a replica that the folder of another one was started once more, elsewhere. */
async function startCopyOf(three: Cluster, replica: number, to: number): Promise<void> {
  const { own } = readNodeRecords(three.at(replica).log, three.replicas.length);
  if (own === null) throw new Error(`replica ${replica} keeps no records`);
  const { cluster, groups } = three.identity(replica);
  const { birth, start, agreed, formed, member } = own;
  const report = { birth, start: start + 1, run: birth, position: 1_000, agreed, formed, member };
  const port = three.replicas.find(({ id }) => id === to)?.paxos_port ?? 0;
  const socket = new Socket().connect(port, HOST);
  socket.write(helloBytes({ cluster, from: replica, to, groups, replicas: three.replicas.length, report }));
  await once(socket, 'data');
  socket.destroy();
}

test.serial('what was being written when a replica gave up its vote counts when it joins', async (t) => {
  const three = await cluster(t);
  let held: (() => void)[] | null = null;
  let slow = 0;
  three.logOf = (replica, log) => {
    const append: LogEngine['append'] = (records, done) => {
      log.append(records, (error) => {
        if (replica === slow && held !== null) held.push(() => done(error));
        else done(error);
      });
    };
    return new Proxy(log, {
      get: (target, name) => {
        if (name === 'append') return append;
        const found: unknown = Reflect.get(target, name, target);
        return typeof found === 'function' ? found.bind(target) : found;
      },
    });
  };
  await three.start(...all);
  await three.propose('one');
  const master = await three.master();
  slow = (master % 3) + 1;
  await until(() => (three.at(slow).recorder.applied.length === 1 ? true : undefined));
  held = [];
  await three.propose('two');
  await until(() => (held !== null && held.length > 0 ? true : undefined));
  await startCopyOf(three, slow, master);
  await until(() => (three.warnings.includes('this replica gives up its vote') ? true : undefined));
  await three.propose('three');
  const durable: readonly (() => void)[] = held;
  held = null;
  for (const done of durable) done();
  await votes(three, slow);
  await until(() => (three.at(slow).recorder.applied.length === 3 ? true : undefined));
  t.deepEqual(three.at(slow).recorder.applied, ['one', 'two', 'three']);
});
