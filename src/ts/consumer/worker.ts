/** The program of a worker process: serves the queues that its parent assigns to it, as long as the parent lives. */
import { loadGlobalConfig, type TopicFiles } from '../config/global_config.js';
import { PhxError } from '../errors.js';
import type { AssignedQueue, Log } from './assigned_queue.js';
import type { Handler, Handlers } from './handler.js';
import { QueueServer } from './queue_server.js';
import { Tally } from './tally.js';
import { type FromWorker, isToWorker, type WorkerSettings } from './worker_messages.js';

/** How often the parent gets figures, in milliseconds. */
const TALLY_MS = 1_000;
/** How often the memory is looked at, in milliseconds. */
const MEMORY_CHECK_MS = 60_000;
const MEBIBYTE = 1024 * 1024;
/** How long handlers may take to finish when the worker stops of its own accord, in milliseconds. */
const GRACE_MS = 10_000;

const tally = new Tally();
const log: Log = (level, line) => tell({ kind: 'log', level, line });
let server: QueueServer | undefined;
let stopping = false;

function tell(message: FromWorker, onSent: () => void = () => undefined): void {
  if (process.send === undefined || !process.connected) onSent();
  else process.send(message, onSent);
}

async function start(settings: WorkerSettings, queues: readonly AssignedQueue[]): Promise<void> {
  // The parent has shown the warnings.
  const config = loadGlobalConfig(settings.global_config_path, { onWarning: () => undefined });
  const files = config.requireTopic(settings.topic_name, { file: settings.global_config_path, key: 'topic' });
  const handlers = await loadHandlers(settings.handler_modules);
  const { dead_letter_path, handlers_concurrent_max } = settings;
  server = new QueueServer({ files, queues, handlers, dead_letter_path, handlers_concurrent_max, tally, log });
  setInterval(() => tell({ kind: 'tally', report: tally.take() }), TALLY_MS);
  watchMemory(files);
  tell({ kind: 'ready' });
}

async function loadHandlers(modules: WorkerSettings['handler_modules']): Promise<Handlers> {
  const handlers: Record<number, Handler> = {};
  for (const [handle_id, url] of Object.entries(modules)) {
    const module: unknown = await import(url);
    handlers[Number(handle_id)] = handlerOf(module, url);
  }
  return handlers;
}

function handlerOf(module: unknown, url: string): Handler {
  const handler = typeof module === 'object' && module !== null && 'default' in module ? module.default : undefined;
  if (!isHandler(handler)) throw new PhxError('CONFIG', `${url} has no function as its default export`);
  return handler;
}

function isHandler(value: unknown): value is Handler {
  return typeof value === 'function';
}

function watchMemory({ topic }: TopicFiles): void {
  const limit_mib = topic.topic.consumer_max_mem_size_mb_per_proc;
  if (limit_mib === 0) return;
  setInterval(() => {
    const used_mib = Math.round(process.memoryUsage.rss() / MEBIBYTE);
    if (used_mib <= limit_mib) return;
    log('warn', `worker ${process.pid} holds ${used_mib} MiB, more than ${limit_mib}; another one takes its place`);
    stop(GRACE_MS);
  }, MEMORY_CHECK_MS);
}

function stop(grace_ms: number): void {
  if (stopping) return;
  stopping = true;
  const stopped = server === undefined ? Promise.resolve() : server.stop(grace_ms);
  void stopped.then(() => tell({ kind: 'tally', report: tally.take() }, () => process.exit(0)));
}

/** The parent logs the reason, and starts another worker. */
function fail(error: unknown): void {
  const reason =
    error instanceof PhxError ? error.message : error instanceof Error ? String(error.stack) : String(error);
  tell({ kind: 'failed', reason }, () => process.exit(1));
}

process.on('message', (message) => {
  if (!isToWorker(message)) return;
  if (message.kind === 'stop') stop(message.grace_ms);
  else start(message.settings, message.queues).catch(fail);
});
// Without the parent nobody knows who serves these queues next; what is not acknowledged is delivered again.
process.on('disconnect', () => process.exit(1));
// These go to the whole group of processes; the parent hears them too and tells when to stop.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('SIGTERM', () => stop(GRACE_MS));
// Whoever read the output of handlers has gone; that is no reason to stop handling.
process.stdout.on('error', () => undefined);
