import { type ChildProcess, fork } from 'node:child_process';
import { Backoff, type BackoffLimits } from '../producer/backoff.js';
import type { AssignedQueue, Log } from './assigned_queue.js';
import type { TallyReport } from './tally.js';
import { isFromWorker, type ToWorker, type WorkerSettings } from './worker_messages.js';

/** How soon a worker that died is replaced: the first time, and at most after dying again and again. */
export const WORKER_RESTART: BackoffLimits = { first_ms: 100, longest_ms: 5_000 };

/** A worker that lived this long is replaced as quickly as the first time. */
const WORKER_SETTLED_MS = 10_000;

/** How long beyond its grace a worker may take to leave before it is killed. */
const WORKER_EXIT_MS = 3_000;

/** What a pool of workers is told. */
export interface WorkerPoolOptions {
  /** The compiled module that a worker process runs. */
  readonly entry: URL;
  readonly settings: WorkerSettings;
  /** Receives the lines of all workers and of the pool. */
  readonly log: Log;
  /** Receives the figures of all workers. */
  readonly onTally: (report: TallyReport) => void;
}

/** One place in the pool: the process that fills it now, and what it serves. */
class Worker {
  readonly #index: number;
  readonly #options: WorkerPoolOptions;
  readonly #backoff = new Backoff(WORKER_RESTART);
  readonly #queues: readonly AssignedQueue[];
  #child: ChildProcess | undefined;
  #restart_timer: NodeJS.Timeout | undefined;
  #ready = false;
  #stopping = false;
  #exited: Promise<void> = Promise.resolve();

  constructor(index: number, options: WorkerPoolOptions, queues: readonly AssignedQueue[]) {
    this.#index = index;
    this.#options = options;
    this.#queues = queues;
    this.#start();
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether a process serves the queues now. */
  get ready(): boolean {
    return this.#ready;
  }

  async stop(grace_ms: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restart_timer);
    const child = this.#child;
    if (child === undefined) return;
    this.#send({ kind: 'stop', grace_ms });
    const killer = setTimeout(() => child.kill('SIGKILL'), grace_ms + WORKER_EXIT_MS);
    await this.#exited;
    clearTimeout(killer);
  }

  #start(): void {
    const child = fork(this.#options.entry, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const started_at_ms = performance.now();
    this.#child = child;
    child.on('message', (message) => this.#onMessage(child, message));
    this.#exited = new Promise((resolve) => {
      const onGone = (reason: string): void => {
        if (this.#child !== child) return;
        this.#child = undefined;
        this.#ready = false;
        resolve();
        this.#onGone(reason, performance.now() - started_at_ms);
      };
      child.once('error', (cause) => onGone(cause.message));
      child.once('exit', (code, signal) => onGone(signal === null ? `exit code ${code}` : `signal ${signal}`));
    });
    this.#send({ kind: 'start', settings: this.#options.settings, queues: this.#queues });
  }

  #onGone(reason: string, lived_ms: number): void {
    if (this.#stopping) return;
    if (lived_ms >= WORKER_SETTLED_MS) this.#backoff.reset();
    const wait_ms = Math.round(this.#backoff.next());
    this.#options.log('error', `worker ${this.#index} died (${reason}), a new one starts in ${wait_ms} ms`);
    this.#restart_timer = setTimeout(() => this.#start(), wait_ms);
  }

  #onMessage(child: ChildProcess, message: unknown): void {
    if (!isFromWorker(message)) return;
    switch (message.kind) {
      case 'ready':
        this.#ready = this.#child === child;
        this.#options.log('info', `worker ${this.#index}, process ${child.pid}, serves ${this.#queues.length} queues`);
        break;
      case 'log':
        this.#options.log(message.level, message.line);
        break;
      case 'failed':
        this.#options.log('error', `worker ${this.#index} cannot start: ${message.reason}`);
        break;
      case 'tally':
        this.#options.onTally(message.report);
        break;
    }
  }

  #send(message: ToWorker): void {
    // A send to a process that just died fails; its exit is seen on its own and a new process gets the queues anew.
    this.#child?.send(message, (cause) => {
      if (cause !== null) this.#options.log('debug', `worker ${this.#index} is gone: ${cause.message}`);
    });
  }
}

/**
 * The worker processes of a consumer server. Each serves the queues that are assigned to it; one that dies is replaced,
 * with growing waits, and its queues go to the replacement, which resumes behind the last acknowledgement.
 */
export class WorkerPool {
  readonly #workers: readonly Worker[];

  /** Forks one process for each list of `shares`. */
  constructor(options: WorkerPoolOptions, shares: readonly (readonly AssignedQueue[])[]) {
    this.#workers = shares.map((queues, index) => new Worker(index, options, queues));
  }

  /** Process ids of the workers that run now. */
  get pids(): number[] {
    return this.#workers.flatMap((worker) => worker.pid ?? []);
  }

  /** How many workers do not serve their queues now: they start, or wait to be started. */
  get missing(): number {
    return this.#workers.filter((worker) => !worker.ready).length;
  }

  /**
   * Lets each worker finish what it handles, for `grace_ms` milliseconds at most, and acknowledge; resolves when all
   * processes are gone. A worker that does not leave is killed: what it did not acknowledge is delivered again.
   */
  async stop(grace_ms: number): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop(grace_ms)));
  }
}
