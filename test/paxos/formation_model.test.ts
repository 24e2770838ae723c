import test from 'ava';
import fc from 'fast-check';
import { type Fault, Model } from './formation_model.js';

const RUNS = process.env['PHXQUEUE_TEST_FULL'] === '1' ? 20_000 : 400;

function faults(replicas: number, kinds: readonly Fault['type'][]): fc.Arbitrary<Fault[]> {
  const place = fc.integer({ min: 1, max: replicas });
  const pick = fc.nat({ max: 30 });
  const all: Readonly<Record<Fault['type'], fc.Arbitrary<Fault>>> = {
    crash: fc.record({ type: fc.constant('crash' as const), place, pick }),
    start: fc.record({ type: fc.constant('start' as const), place }),
    wipe: fc.record({ type: fc.constant('wipe' as const), place }),
    damage: fc.record({ type: fc.constant('damage' as const), place }),
    copy: fc.record({ type: fc.constant('copy' as const), place }),
    restore: fc.record({ type: fc.constant('restore' as const), place }),
    flag: fc.record({ type: fc.constant('flag' as const), place }),
    greet: fc.record({ type: fc.constant('greet' as const), place, peer: place }),
    deliver: fc.record({ type: fc.constant('deliver' as const), pick }),
    lose: fc.record({ type: fc.constant('lose' as const), pick }),
    double: fc.record({ type: fc.constant('double' as const), pick }),
    sync: fc.record({ type: fc.constant('sync' as const), place, pick }),
    vote: fc.record({ type: fc.constant('vote' as const), place }),
    settle: fc.record({ type: fc.constant('settle' as const) }),
    replace: fc.record({ type: fc.constant('replace' as const), place, pick }),
    named: fc.record({ type: fc.constant('named' as const), place }),
    gone: fc.record({ type: fc.constant('gone' as const), place, pick }),
  };
  const usual: Record<string, number> = {
    deliver: 30,
    sync: 25,
    start: 10,
    greet: 8,
    vote: 6,
    settle: 1,
    replace: 6,
    named: 6,
  };
  const weighted = kinds.map((kind) => ({ weight: usual[kind] ?? 2, arbitrary: all[kind] }));
  return fc.array(fc.oneof(...weighted), { minLength: 20, maxLength: 250, size: 'max' });
}

/** What happens to honest disks. */
const LAWFUL = ['crash', 'start', 'greet', 'deliver', 'lose', 'double', 'sync', 'vote', 'gone', 'settle'] as const;
const LOSSES = ['wipe', 'damage', 'copy', 'restore'] as const;
/** Faults by which a folder is not what it was. */
const LOSING: readonly Fault['type'][] = ['wipe', 'damage', 'restore'];
/** What gives a replica that lost its disk a vote again. */
const SUCCESSION = ['replace', 'named'] as const;

function run(replicas: number, sequence: readonly Fault[], spared: number | null = null): Model {
  const model = new Model(replicas);
  for (const fault of sequence) {
    const spares = 'place' in fault && fault.place === spared && LOSING.includes(fault.type);
    if (!spares) model.apply(fault);
  }
  return model;
}

/** A cluster that has formed. */
function formed(replicas: number): Model {
  const model = new Model(replicas);
  for (const place of model.places) model.start(place);
  model.settle();
  return model;
}

/** Throws unless the model kept every law, and formed at most one cluster. */
function assertSafe(model: Model): void {
  if (model.violations.length > 0) throw new Error(model.violations.join('; '));
  if (model.formed.size > 1) throw new Error(`several clusters: ${[...model.formed].join(' and ')}`);
}

/** Short sequences of what went wrong, in place of fast-check's report of how it found them. */
function check<Ts>(property: fc.IProperty<Ts>): void {
  const { failed, errorInstance, counterexample, seed } = fc.check(property, { numRuns: RUNS });
  if (failed) throw new Error(`seed ${seed}: ${errorInstance}\n${JSON.stringify(counterexample)}`);
}

for (const replicas of [1, 3, 5]) {
  test(`${replicas} replicas: whatever crashes, they form one cluster once all are up, and all vote`, (t) => {
    check(
      fc.property(faults(replicas, LAWFUL), (sequence) => {
        const model = run(replicas, sequence);
        for (const place of model.places) model.start(place);
        model.settle();
        assertSafe(model);
        if (model.voting().length < replicas) throw new Error(model.obstacles());
      }),
    );
    t.pass();
  });
}

for (const replicas of [3, 5]) {
  test(`${replicas} replicas: while one disk is whole one list forms, and no wiped replica votes again`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, ...LOSSES]), (sequence) => {
        const model = run(replicas, sequence, 1);
        for (const place of model.places) model.start(place);
        model.settle();
        assertSafe(model);
        if ([...model.voters.values()].some((births) => births.size > 1))
          throw new Error('two births of a place voted');
      }),
    );
    t.pass();
  });

  test(`${replicas} replicas: while all disks are whole, a majority that forms by itself forms one list, too`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, 'flag']), (sequence) => {
        const model = run(replicas, sequence);
        for (const place of model.places) model.start(place);
        model.settle();
        assertSafe(model);
      }),
    );
    t.pass();
  });

  test(`${replicas} replicas: a folder that is older than all others know never votes`, (t) => {
    check(
      fc.property(
        faults(replicas, [...LAWFUL, 'copy']),
        fc.integer({ min: 1, max: replicas }),
        faults(replicas, LAWFUL),
        (before, place, after) => {
          const model = run(replicas, before);
          for (const each of model.places) model.start(each);
          model.settle();
          for (const each of model.places) model.apply({ type: 'vote', place: each });
          model.settle();
          model.processes.delete(place);
          model.restore(place);
          for (const fault of after) model.apply(fault);
          model.start(place);
          model.settle();
          assertSafe(model);
        },
      ),
    );
    t.pass();
  });

  test(`${replicas} replicas: whatever becomes of the disk of one, it votes again once it joined`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, ...LOSSES, ...SUCCESSION]), (sequence) => {
        const model = formed(replicas);
        for (const fault of sequence) {
          const spares = 'place' in fault && fault.place !== replicas && LOSING.includes(fault.type);
          if (!spares) model.apply(fault);
        }
        for (let round = 0; round < 3; round += 1) {
          for (const place of model.places) model.start(place);
          model.settle();
          model.enrol();
        }
        assertSafe(model);
        if (model.voting().length < replicas) throw new Error(model.obstacles());
      }),
    );
    t.pass();
  });

  test(`${replicas} replicas: where all logs are damaged no other cluster forms, not even if they are told to`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, ...SUCCESSION, 'damage', 'flag']), (sequence) => {
        const model = formed(replicas);
        for (const fault of sequence) model.apply(fault);
        for (const place of model.places) model.apply({ type: 'damage', place });
        for (const place of model.places) model.start(place);
        for (const place of model.places) model.apply({ type: 'flag', place });
        model.settle();
        model.enrol();
        assertSafe(model);
        if (model.voting().length > 0) throw new Error(`${model.voting()} vote`);
      }),
    );
    t.pass();
  });

  test(`${replicas} replicas: nobody votes who is no member of all groups, whoever joins`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, ...LOSSES, ...SUCCESSION]), (sequence) => {
        const model = formed(replicas);
        for (const fault of sequence) model.apply(fault);
        for (const place of model.places) model.start(place);
        model.settle();
        model.enrol();
        if (model.violations.length > 0) throw new Error(model.violations.join('; '));
      }),
    );
    t.pass();
  });

  test(`${replicas} replicas: a folder of before its replica was a member does not vote in its name`, (t) => {
    check(
      fc.property(faults(replicas, [...LAWFUL, ...SUCCESSION]), (after) => {
        const model = formed(replicas);
        const place = replicas;
        model.apply({ type: 'wipe', place });
        model.start(place);
        model.settle();
        model.apply({ type: 'copy', place });
        model.enrol();
        for (const each of model.places) model.apply({ type: 'vote', place: each });
        model.settle();
        if (!model.voting().includes(place)) throw new Error(model.obstacles());
        model.processes.delete(place);
        model.restore(place);
        if (model.forbidden.size !== 1) throw new Error('nobody remembers more');
        for (const fault of after) model.apply(fault);
        for (const each of model.places) model.start(each);
        model.settle();
        model.enrol();
        assertSafe(model);
        if (!model.voting().includes(place)) throw new Error(model.obstacles());
      }),
    );
    t.pass();
  });
}
