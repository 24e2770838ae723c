import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadGlobalConfig, type TopicFiles } from '../config/global_config.js';
import { ownConsumer } from '../config/own_address.js';
import { PhxError } from '../errors.js';
import { type AssignedQueue, type Log, queueKey } from './assigned_queue.js';
import { assignQueues, groupsServed, spreadQueues } from './assignment.js';
import type { Handlers } from './handler.js';
import { HANDLERS_CONCURRENT_MAX } from './lanes.js';
import { QueueServer } from './queue_server.js';
import { Tally, type TallyReport } from './tally.js';
import { WorkerPool } from './worker_pool.js';

/** Settings of a consumer. Either `handlers` or `handler_modules` is needed. */
export interface ConsumerOptions {
  /** Path of the global configuration file. Paths in it are relative to the working directory. */
  readonly global_config_path: string;
  /** Name of the topic. Not needed if there is only one. */
  readonly topic?: string;
  /** Who this consumer is in the topic's consumer file. Nothing listens there. */
  readonly ip: string;
  readonly port: number;
  /** Handlers by handle_id, as functions: they run in this process. */
  readonly handlers?: Handlers;
  /**
   * Paths or file URLs of handler modules by handle_id; each exports its handler as the default. Run in `nproc`
   * workers.
   */
  readonly handler_modules?: Readonly<Record<number, string | URL>>;
  /** How many worker processes. Default 1. */
  readonly nproc?: number;
  /** How many handlers of one queue run at the same time. Default 100. */
  readonly handlers_concurrent_max?: number;
  /** File for items whose retry chain is at its end. Default data/consumer.<port>/dead_letters.jsonl. */
  readonly dead_letter_path?: string;
  /** How long running handlers may take to finish when the consumer stops, in milliseconds. Default 10,000. */
  readonly grace_ms?: number;
  /** Receives the consumer's log. Default: warnings and errors go to standard error. */
  readonly log?: Log;
}

const GRACE_MS = 10_000;

type Runner =
  | { readonly kind: 'in_process'; readonly server: QueueServer }
  | { readonly kind: 'workers'; readonly pool: WorkerPool };

/**
 * Takes items out of the queues that are assigned to it, and hands them to handlers: at least once each, those of one
 * key in order. An item is acknowledged after its handler has ended, and after a failed one is in its retry queue.
 */
export class Consumer {
  /** The queues that this consumer serves. */
  readonly queues: readonly AssignedQueue[];
  readonly #options: ConsumerOptions;
  readonly #files: TopicFiles;
  readonly #log: Log;
  readonly #tally = new Tally();
  #runner: Runner | undefined;
  #stopped: Promise<void> | undefined;

  /** Loads the configuration and finds the queues. Throws PhxError CONFIG. */
  constructor(options: ConsumerOptions) {
    this.#options = options;
    this.#log = options.log ?? logToStderr;
    const config = loadGlobalConfig(options.global_config_path, { onWarning: (line) => this.#log('warn', line) });
    const only = config.topics.length === 1 ? config.topics[0]?.info.topic_name : undefined;
    const topic_name = options.topic ?? only;
    if (topic_name === undefined) throw new PhxError('CONFIG', `${config.file} has several topics: name one of them`);
    const place = { file: 'consumer options', key: 'topic' };
    this.#files = config.requireTopic(topic_name, place);
    checkOptions(options);
    const own = ownConsumer(this.#files, options, 'consumer options');
    this.queues = assignQueues(this.#files, own);
    this.#warn(groupsServed(this.#files.topic, own));
  }

  /** What was counted so far, and how far each queue is behind. */
  get figures(): TallyReport {
    return this.#tally.read();
  }

  /** Why not everything that is assigned is served right now; null if it is. */
  get obstacle(): string | null {
    if (this.#runner === undefined || this.#stopped !== undefined) return 'the consumer does not run';
    const missing = this.#runner.kind === 'workers' ? this.#runner.pool.missing : 0;
    return missing === 0 ? null : `${missing} worker processes are not ready`;
  }

  /** Process ids of the workers that run now. */
  get worker_pids(): number[] {
    return this.#runner?.kind === 'workers' ? this.#runner.pool.pids : [];
  }

  /** Begins to serve. Does not wait for stores or workers. A consumer starts once. */
  start(): void {
    if (this.#runner !== undefined) throw new PhxError('CONFIG', 'the consumer was started already');
    const { handlers, nproc = 1 } = this.#options;
    const dead_letter_path = this.#options.dead_letter_path ?? `data/consumer.${this.#options.port}/dead_letters.jsonl`;
    const handlers_concurrent_max = this.#options.handlers_concurrent_max ?? HANDLERS_CONCURRENT_MAX;
    if (handlers !== undefined) {
      const server = new QueueServer({
        files: this.#files,
        queues: this.queues,
        handlers,
        dead_letter_path,
        handlers_concurrent_max,
        tally: this.#tally,
        log: this.#log,
      });
      this.#runner = { kind: 'in_process', server };
      return;
    }
    const pool = new WorkerPool(
      {
        entry: new URL('./worker.js', import.meta.url),
        settings: {
          global_config_path: this.#options.global_config_path,
          topic_name: this.#files.info.topic_name,
          handler_modules: moduleUrls(this.#options.handler_modules ?? {}),
          dead_letter_path,
          handlers_concurrent_max,
        },
        log: this.#log,
        onTally: (report) => this.#tally.add(report),
      },
      spreadQueues(this.queues, nproc),
    );
    this.#runner = { kind: 'workers', pool };
  }

  /**
   * Fetches no more, lets running handlers finish for `grace_ms` milliseconds at most, and acknowledges what is
   * finished. What is not comes again, to whoever serves the queue next.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** Serves until `signal` fires, or the process gets SIGINT or SIGTERM; resolves when the consumer has stopped. */
  async run(signal?: AbortSignal): Promise<void> {
    this.start();
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        process.off('SIGINT', finish);
        process.off('SIGTERM', finish);
        signal?.removeEventListener('abort', finish);
        resolve();
      };
      process.once('SIGINT', finish);
      process.once('SIGTERM', finish);
      signal?.addEventListener('abort', finish, { once: true });
      if (signal?.aborted === true) finish();
    });
    await this.stop();
  }

  async #stop(): Promise<void> {
    const grace_ms = this.#options.grace_ms ?? GRACE_MS;
    if (this.#runner?.kind === 'in_process') await this.#runner.server.stop(grace_ms);
    else await this.#runner?.pool.stop(grace_ms);
  }

  #warn(groups: readonly number[]): void {
    const asking = (want: 'locks' | 'scheduler'): string =>
      groups
        .filter((group) => {
          const settings = this.#files.topic.consumerGroup(group);
          return want === 'locks' ? settings?.skip_lock === 0 : settings?.use_dynamic_scale === 1;
        })
        .join(', ');
    const locked = asking('locks');
    if (locked !== '') {
      this.#log(
        'warn',
        `groups ${locked} ask for queue locks (skip_lock 0); they are served without, by weights alone`,
      );
    }
    const dynamic = asking('scheduler');
    if (dynamic !== '') this.#log('info', `groups ${dynamic} ask for dynamic weights; the configured ones are used`);
    if (this.queues.length === 0) this.#log('warn', 'no queue is assigned to this consumer; others serve them all');
    else this.#log('info', `serves (group/store/queue) ${this.queues.map(queueKey).join(' ')}`);
  }
}

function checkOptions({ handlers, handler_modules, nproc = 1 }: ConsumerOptions): void {
  if ((handlers === undefined) === (handler_modules === undefined)) {
    throw new PhxError('CONFIG', 'a consumer needs either handlers or handler_modules');
  }
  if (!Number.isInteger(nproc) || nproc < 1) throw new PhxError('CONFIG', `nproc is ${nproc}; at least 1 is needed`);
}

function moduleUrls(modules: Readonly<Record<number, string | URL>>): Record<string, string> {
  const urls = Object.entries(modules).map(([handle_id, module]): [string, string] => {
    if (module instanceof URL) return [handle_id, module.href];
    return [handle_id, module.startsWith('file:') ? module : pathToFileURL(resolve(module)).href];
  });
  return Object.fromEntries(urls);
}

function logToStderr(level: string, line: string): void {
  if (level === 'warn' || level === 'error') process.stderr.write(`phxqueue consumer: ${line}\n`);
}
