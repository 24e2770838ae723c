/** Many seeds on several processes. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Job, Report } from './worker.js';

/** Every seed that is a multiple is simulated twice, on any of the processes: both runs must leave the same trace. */
const REPLAY_EVERY = 50;

export interface CampaignOptions {
  readonly from: number;
  readonly count: number;
  readonly faults_ms: number;
  readonly processes: number;
  /** Ends with the first failure. */
  readonly bail: boolean;
  readonly onFailure: (seed: number, what: string) => void;
  readonly onProgress: (done: number, failed: number) => void;
}

export interface CampaignResult {
  readonly seeds: number;
  readonly failed: number;
  readonly replayed: number;
  readonly events: number;
  readonly acknowledged: number;
  readonly simulated_ms: number;
  /** Of the traces, by seed. */
  readonly hashes: ReadonlyMap<number, string>;
  readonly reached: ReadonlyMap<string, number>;
}

export function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  return new Campaign(options).run();
}

class Campaign {
  readonly #options: CampaignOptions;
  readonly #jobs: Job[] = [];
  readonly #hashes = new Map<number, string>();
  readonly #reached = new Map<string, number>();
  #seeds = 0;
  #failed = 0;
  #replayed = 0;
  #events = 0;
  #acknowledged = 0;
  #simulated_ms = 0;

  constructor(options: CampaignOptions) {
    this.#options = options;
    const { from, count, faults_ms } = options;
    for (let seed = from; seed < from + count; seed += 1) {
      this.#jobs.push({ seed, faults_ms });
      if (seed % REPLAY_EVERY === 0) this.#jobs.push({ seed, faults_ms });
    }
  }

  async run(): Promise<CampaignResult> {
    const processes = Math.min(this.#options.processes, this.#jobs.length);
    await Promise.all(Array.from({ length: processes }, () => this.#work()));
    return {
      seeds: this.#seeds,
      failed: this.#failed,
      replayed: this.#replayed,
      events: this.#events,
      acknowledged: this.#acknowledged,
      simulated_ms: this.#simulated_ms,
      hashes: this.#hashes,
      reached: this.#reached,
    };
  }

  async #work(): Promise<void> {
    const child = fork(fileURLToPath(new URL('worker.js', import.meta.url)));
    try {
      for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
        const report = await reportOf(child, job);
        this.#take(report);
        if (report.failure !== null && (this.#options.bail || child.exitCode !== null)) this.#jobs.length = 0;
      }
    } finally {
      child.kill();
    }
  }

  #take(report: Report): void {
    const { seed } = report;
    if (report.failure !== null) {
      this.#fail(seed, report.failure);
      this.#seeds += 1;
      return;
    }
    const { result, reached } = report;
    const known = this.#hashes.get(seed);
    if (known !== undefined) {
      this.#replayed += 1;
      if (known !== result.trace_hash) this.#fail(seed, 'two runs of the seed left different traces');
      return;
    }
    this.#hashes.set(seed, result.trace_hash);
    this.#seeds += 1;
    this.#events += result.events;
    this.#acknowledged += result.acknowledged;
    this.#simulated_ms += result.simulated_ms;
    for (const [name, times] of reached) this.#reached.set(name, (this.#reached.get(name) ?? 0) + times);
    this.#options.onProgress(this.#seeds, this.#failed);
  }

  #fail(seed: number, what: string): void {
    this.#failed += 1;
    this.#options.onFailure(seed, what);
  }
}

function reportOf(child: ChildProcess, job: Job): Promise<Report> {
  return new Promise((resolve) => {
    const onExit = (code: number | null, signal: string | null): void => {
      resolve({ seed: job.seed, failure: `the process ended with ${code ?? signal}` });
    };
    child.once('exit', onExit);
    child.once('message', (report: Report) => {
      child.off('exit', onExit);
      resolve(report);
    });
    child.send(job);
  });
}
