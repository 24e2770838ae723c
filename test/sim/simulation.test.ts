import test from 'ava';
import { type CampaignResult, runCampaign } from './campaign.js';
import { neverReached } from './rare_paths.js';
import { Simulation } from './simulation.js';

const SEEDS = process.env['PHXQUEUE_TEST_FULL'] === '1' ? 2_000 : 100;
const FAULTS_MS = 60_000;
const PROCESSES = 2;

test('replicas keep their promises under faults, and each run can be replayed', async (t) => {
  t.timeout(SEEDS * 10_000);
  const failures: string[] = [];
  const result: CampaignResult = await runCampaign({
    from: 1,
    count: SEEDS,
    faults_ms: FAULTS_MS,
    processes: PROCESSES,
    bail: false,
    onFailure: (seed, what) => failures.push(`${what}; replay: npm run sim -- --seed ${seed} --trace`),
    onProgress: () => undefined,
  });
  t.deepEqual(failures, []);
  t.is(result.seeds, SEEDS);
  t.is(result.replayed, SEEDS / 50, 'traces were compared');
  t.true(result.acknowledged > SEEDS * 100, 'clusters that acknowledge nothing are tested for nothing');
  t.deepEqual(neverReached(result.reached), []);
});

test('a seed leaves the same trace in another process, another seed another', async (t) => {
  const few = { from: 1, count: 2, faults_ms: 1_000, processes: 1, bail: false };
  const { hashes } = await runCampaign({
    ...few,
    onFailure: (_seed, what) => t.fail(what),
    onProgress: () => undefined,
  });
  for (const seed of [2, 1]) {
    const { trace_hash } = await new Simulation({ seed, faults_ms: 1_000 }).run();
    t.true(hashes.get(seed) === trace_hash);
  }
  t.not(hashes.get(1), hashes.get(2));
});
