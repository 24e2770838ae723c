/** The stories of docs/internals/forming.md, one by one. */
import test from 'ava';
import { Formation } from '../../src/ts/paxos/formation.js';
import type { FormationOutput, OwnRecord } from '../../src/ts/paxos/formation_types.js';
import { PeerMemory } from '../../src/ts/paxos/peer_memory.js';
import { Model } from './formation_model.js';
import { reportOf } from './sockets.js';

function modelOf(replicas: number, ...started: number[]): Model {
  const model = new Model(replicas);
  for (const place of started) model.start(place);
  model.settle();
  return model;
}

function obstacleOf(model: Model, place: number): string {
  return model.processes.get(place)?.formation.obstacle ?? 'does not run';
}

function ownOf(seed: number, change: Partial<OwnRecord> = {}): OwnRecord {
  const { birth } = reportOf(seed);
  return { birth, start: 1, origin: 'empty', agreed: null, formed: null, member: null, ids: null, ...change };
}

function machineOf(own: OwnRecord): Formation {
  const machine = new Formation({ place: 1, replicas: 3, run: 'f'.repeat(16), nameOf: (id) => `R${id}` }, own, []);
  machine.step({ type: 'start' });
  machine.step({ type: 'durable', record: 1 });
  return machine;
}

function kinds(outputs: readonly FormationOutput[]): string[] {
  return outputs.map(({ type }) => type);
}

test('a cluster of one forms at once', (t) => {
  const model = modelOf(1, 1);
  t.deepEqual(model.voting(), [1]);
});

test('two of three wait for the third, and all three form', (t) => {
  const model = modelOf(3, 1, 2);
  t.deepEqual(model.voting(), []);
  t.is(
    obstacleOf(model, 1),
    'it waits to hear from 3: a new cluster forms only when all 3 replicas have been up together',
  );
  model.start(3);
  model.settle();
  t.deepEqual(model.voting(), [1, 2, 3]);
  t.is(obstacleOf(model, 1), '');
});

test('after all were stopped, a majority is enough, and one alone is not', (t) => {
  const model = modelOf(3, 1, 2, 3);
  model.processes.clear();
  model.start(1);
  model.settle();
  t.deepEqual(model.voting(), []);
  t.regex(obstacleOf(model, 1), /^it votes again once 1 of 2, 3 confirmed/);
  model.start(3);
  model.settle();
  t.deepEqual(model.voting(), [1, 3]);
});

test('wiped replicas do not vote, however many they are', (t) => {
  const model = modelOf(3, 1, 2, 3);
  for (const place of [2, 3]) model.apply({ type: 'wipe', place });
  for (const place of [2, 3]) model.start(place);
  model.settle();
  // Nobody asks the one that knows better: it is connected and was welcomed before, but alone it is no majority.
  t.deepEqual(model.voting(), [1]);
  t.regex(obstacleOf(model, 2), /^it has no vote: its folder was empty, but the cluster exists/);
  model.processes.delete(1);
  model.start(1);
  model.settle();
  t.deepEqual(model.voting(), [], 'the word of the wiped ones is worth nothing');
  t.is(model.formed.size, 1);
});

test('a folder that is older joins without a vote', (t) => {
  const model = modelOf(3, 1, 2, 3);
  model.apply({ type: 'copy', place: 3 });
  model.apply({ type: 'vote', place: 3 });
  model.settle();
  model.processes.delete(3);
  model.restore(3);
  model.start(3);
  model.settle();
  t.deepEqual(model.voting(), [1, 2]);
  t.regex(obstacleOf(model, 3), /^it has no vote: its folder is older than what it had told the others/);
});

test('a folder from before its replica became a member does not vote under the ids that history gives it', (t) => {
  const model = modelOf(3, 1, 2, 3);
  const loseDisk = (place: number): void => {
    model.apply({ type: 'wipe', place });
    model.start(place);
    model.settle();
  };
  loseDisk(3);
  model.apply({ type: 'copy', place: 3 });
  model.enrol();
  const ids = model.groups.map((group) => group.get(3)?.id ?? 0);
  t.deepEqual(model.voting(), [1, 2, 3]);
  // One disk after the other: nobody remembers the birth of the copy any more.
  for (const place of [3, 1, 2]) {
    loseDisk(place);
    model.enrol();
    t.deepEqual(model.voting(), [1, 2, 3]);
  }
  model.processes.delete(3);
  model.restore(3);
  model.start(3);
  model.settle();
  model.recall(3, ids);
  model.apply({ type: 'sync', place: 3, pick: 1 });
  t.deepEqual(model.voting(), [1, 2], 'not before others have heard under which ids it would vote');
  model.settle();
  t.deepEqual(model.voting(), [1, 2]);
  t.regex(obstacleOf(model, 3), /^it has no vote: its folder is older than what it had told the others/);
  model.enrol();
  t.deepEqual(model.voting(), [1, 2, 3]);
});

test('a replica whose log was damaged joins the cluster that exists, and waits until it hears of one', (t) => {
  const model = modelOf(3, 1, 2, 3);
  model.apply({ type: 'damage', place: 3 });
  model.processes.clear();
  model.start(3);
  model.settle();
  t.is(
    obstacleOf(model, 3),
    'its log was damaged, and it waits to hear from a replica of the cluster that it was in (1, 2 cannot be reached): ' +
      'it joins that one, and never forms a new one',
  );
  for (const place of [1, 2]) model.start(place);
  model.settle();
  t.deepEqual(model.voting(), [1, 2]);
  t.regex(obstacleOf(model, 3), /^it has no vote: its log was damaged, and what is lost may have been a vote/);
  model.enrol();
  t.deepEqual(model.voting(), [1, 2, 3]);
  t.deepEqual(model.violations, []);
});

test('replicas whose logs were all damaged form no cluster, with whatever option', (t) => {
  const model = modelOf(3, 1, 2, 3);
  for (const place of model.places) model.apply({ type: 'damage', place });
  for (const place of model.places) model.start(place);
  model.settle();
  for (const place of model.places) model.apply({ type: 'flag', place });
  model.settle();
  t.deepEqual(model.voting(), []);
  t.is(model.formed.size, 1);
  for (const place of model.places) t.is(model.disks.get(place)?.own.agreed, null);
  t.regex(
    obstacleOf(model, 1),
    /^its log was damaged, and it waits to hear from a replica of the cluster that it was in:/,
  );
});

test('a birth after damage that is found to be old still waits for a cluster', (t) => {
  const machine = machineOf(ownOf(1, { origin: 'damage' }));
  const { birth } = reportOf(7);
  machine.step({ type: 'rebirth', told: reportOf(1).birth, birth, origin: 'old' });
  machine.step({ type: 'durable', record: 2 });
  t.is(machine.report.birth, birth);
  machine.step({ type: 'status', place: 2, report: reportOf(2) });
  machine.step({ type: 'status', place: 3, report: reportOf(3) });
  machine.step({ type: 'durable', record: 3 });
  t.is(machine.report.agreed, null);
  t.regex(machine.obstacle, /never forms a new one$/);
});

test('a disk lost while the cluster forms stops it, and people hear what to do', (t) => {
  const machine = machineOf(ownOf(1));
  machine.step({ type: 'status', place: 2, report: reportOf(2) });
  t.true(kinds(machine.step({ type: 'status', place: 3, report: reportOf(3) })).includes('write'), 'it agrees');
  machine.step({ type: 'durable', record: 2 });
  machine.step({ type: 'durable', record: 3 });
  t.is(machine.obstacle, 'it waits for R2, R3 to agree to the founders of the new cluster');
  machine.step({ type: 'status', place: 3, report: reportOf(4) });
  t.regex(machine.obstacle, /^R3 lost its folder while the cluster formed: if this store never served anything, stop/);
});

test('what form-with-majority gives up: one lost disk among those that are there makes a second cluster', (t) => {
  const model = modelOf(3, 1, 2);
  for (const place of [1, 2]) model.apply({ type: 'flag', place });
  model.settle();
  t.deepEqual(model.voting(), [1, 2]);
  // Replica 1 alone knows of the cluster, and it is not asked.
  model.processes.clear();
  model.apply({ type: 'wipe', place: 2 });
  for (const place of [2, 3]) model.start(place);
  model.settle();
  t.deepEqual(model.voting(), [], 'without the option they wait for it');
  for (const place of [2, 3]) model.apply({ type: 'flag', place });
  model.settle();
  t.is(model.formed.size, 2);
  // The two clusters never mix.
  model.start(1);
  model.settle();
  t.deepEqual(model.voting(), [2, 3]);
});

test('clusters with other founders do not talk to each other', (t) => {
  const founders = [1, 2, 3].map((seed) => reportOf(seed).birth);
  const machine = machineOf(ownOf(1, { agreed: founders, formed: founders, member: 1 }));
  const report = reportOf(5, { formed: [founders[0] ?? null, reportOf(5).birth, null], member: 2 });
  const outputs = machine.step({ type: 'hello', caller: 1, place: 2, report });
  const reason = 'its cluster was formed by other founders than this one';
  t.deepEqual(outputs, [{ type: 'answer', caller: 1, verdict: { type: 'refuse', reason } }]);
  t.deepEqual(kinds(machine.step({ type: 'status', place: 2, report })), ['hang_up']);
});

test('a caller waits until it is remembered; one that is known is let in at once', (t) => {
  const machine = machineOf(ownOf(1));
  const first = machine.step({ type: 'hello', caller: 1, place: 2, report: reportOf(2) });
  t.deepEqual(kinds(first), ['write']);
  t.deepEqual(kinds(machine.step({ type: 'hello', caller: 2, place: 2, report: reportOf(2) })), []);
  const answers = machine.step({ type: 'durable', record: 2 });
  t.deepEqual(
    answers,
    [1, 2].map((caller) => ({ type: 'answer', caller, verdict: { type: 'welcome' } })),
  );
  const again = machine.step({ type: 'hello', caller: 3, place: 2, report: reportOf(2) });
  t.deepEqual(again, [{ type: 'answer', caller: 3, verdict: { type: 'welcome' } }]);
});

test('how far a peer has got is written when nothing else is, once for all that comes meanwhile', (t) => {
  const machine = machineOf(ownOf(1));
  const status = (position: number) => machine.step({ type: 'status', place: 2, report: reportOf(2, { position }) });
  t.deepEqual(kinds(status(1)), ['write']);
  for (const position of [2, 3, 4]) t.deepEqual(status(position), []);
  const [write] = machine.step({ type: 'durable', record: 2 });
  t.like(write, { type: 'write', record: 3 });
  t.is(write?.type === 'write' ? write.peers[0]?.position : null, 4);
  t.deepEqual(status(4), []);
  t.deepEqual(machine.step({ type: 'durable', record: 3 }), []);
});

test('who votes under a list without names is known by the first birth that does', (t) => {
  const nameless = ownOf(1, { origin: 'votes', formed: [null, null, null], member: 1 });
  const machine = machineOf(nameless);
  const claim = { formed: [null, null, null], member: 2 };
  t.deepEqual(kinds(machine.step({ type: 'hello', caller: 1, place: 2, report: reportOf(2, claim) })), ['write']);
  const [answer] = machine.step({ type: 'hello', caller: 2, place: 2, report: reportOf(5, claim) });
  t.like(answer, { caller: 2, verdict: { type: 'old' } });
  machine.step({ type: 'status', place: 2, report: reportOf(6, { ...claim, member: null }) });
  t.false(machine.isVoter(2), 'one that joins is welcome, and does not vote');
});

test('of the births that voted at a place the one with the highest id is remembered longest', (t) => {
  const memory = new PeerMemory([]);
  const remember = (seed: number, member: number | null, position = 1): void => {
    memory.remember(2, reportOf(seed, { member, position }), null);
  };
  remember(9, null);
  for (const [seed, member] of [18, 34, 50].entries()) remember(seed, member);
  remember(9, 66, 100);
  for (const seed of [10, 11, 12]) remember(seed, null);
  const { run } = reportOf(13);
  t.true(memory.isOld(reportOf(9, { start: 2, run, member: 66, position: 50 })));
  t.true(memory.hasSuccessor(2, reportOf(2).birth, 50));
});

test('memory of births is bounded, and keeps the founder', (t) => {
  const memory = new PeerMemory([]);
  const founder = reportOf(1).birth;
  for (let seed = 1; seed <= 20; seed += 1) memory.remember(2, reportOf(seed), founder);
  t.deepEqual(
    memory.list().map(({ birth }) => birth),
    [1, 18, 19, 20].map((seed) => reportOf(seed).birth),
  );
});
