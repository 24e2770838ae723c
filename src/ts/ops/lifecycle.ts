/**
 * The life of a server process: its command line, start in the foreground or in the background, log, process id file,
 * signals, and an end that leaves nothing behind.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Registry } from 'prom-client';
import { assert, PhxError } from '../errors.js';
import { type Logger, type OpenLog, openLogger } from './logger.js';
import { processMetrics } from './metrics.js';
import { PidFile } from './pid_file.js';

/** Fewer open files than this and a busy server runs out of sockets. */
const OPEN_FILES_MIN = 4_000;
/** How long a server may take to stop after a signal, in milliseconds. */
const STOP_MS_MAX = 15_000;
/** How long the last log lines may take before the process ends, in milliseconds. */
const LOG_FLUSH_MS = 1_000;

/** The part of a server's configuration that its life depends on. */
export interface LifecycleConf {
  readonly log: {
    readonly dir: string;
    readonly level: number;
    readonly json: boolean;
    readonly file_bytes_max: number;
    readonly files_max: number;
  };
}

/** What a server gets from the process around it. */
export interface ServerContext {
  readonly logger: Logger;
  readonly registry: Registry;
  /** Those of the program's own switches that were given. */
  readonly switches: ReadonlySet<string>;
  /** The server cannot go on: writes a last line and ends the process with exit code 1. */
  readonly fail: (error: unknown) => void;
}

export interface RunningServer {
  /** What it does now, for people: `listens on 127.0.0.1:5100`. */
  readonly description: string;
  /** Stops gracefully. */
  close(): Promise<void>;
}

export interface ServerProgram<Conf extends LifecycleConf> {
  /** Under which it is started and logs: `store_main`. */
  readonly name: string;
  /** One line for `--help`. */
  readonly about: string;
  readonly example_conf: string;
  /** Long options of its own that take no value, with the lines of help for each. */
  readonly switches?: Readonly<Record<string, readonly string[]>>;
  /** Reads the file given by -c. Throws PhxError CONFIG. */
  readonly loadConf: (path: string, onWarning: (line: string) => void) => Conf;
  /** Resolves once the server listens; it must not wait for others. */
  readonly start: (conf: Conf, context: ServerContext) => Promise<RunningServer>;
}

interface Arguments {
  readonly conf: string;
  readonly daemon: boolean;
  readonly level: number | null;
  readonly switches: ReadonlySet<string>;
}

/** What a server in the background tells the process that started it. */
type Report = { readonly listening: string } | { readonly failed: string };

/** Runs a server program with its command-line arguments. Sets the exit code; resolves when the server has started. */
export async function runServer<Conf extends LifecycleConf>(
  program: ServerProgram<Conf>,
  argv: readonly string[],
): Promise<void> {
  let args: Arguments | 'usage';
  try {
    args = parse(argv, Object.keys(program.switches ?? {}));
  } catch (error) {
    complain(program.name, `${messageOf(error)} (see ${program.name} --help)`);
    return;
  }
  if (args === 'usage') process.stdout.write(usage(program));
  else if (args.daemon) await startInBackground(program, args, argv);
  else await new ServerLife(program, args).start();
}

class ServerLife<Conf extends LifecycleConf> {
  readonly #program: ServerProgram<Conf>;
  readonly #args: Arguments;
  #log: OpenLog | null = null;
  #pid_file: PidFile | null = null;
  #server: RunningServer | null = null;
  #ending = false;

  constructor(program: ServerProgram<Conf>, args: Arguments) {
    this.#program = program;
    this.#args = args;
  }

  async start(): Promise<void> {
    const { name } = this.#program;
    process.on('uncaughtException', (error) => this.#fail(error));
    process.on('unhandledRejection', (error) => this.#fail(error));
    process.on('SIGTERM', () => this.#stop('SIGTERM'));
    process.on('SIGINT', () => this.#stop('SIGINT'));
    // The terminal that started the server may be closed.
    process.on('SIGHUP', () => this.#log?.logger.info('SIGHUP is ignored; SIGTERM stops the server'));
    try {
      const warnings: string[] = [];
      const conf = this.#program.loadConf(this.#args.conf, (line) => warnings.push(line));
      const level = this.#args.level ?? conf.log.level;
      this.#log = await openLogger({ ...conf.log, level, program: name });
      const { logger, path } = this.#log;
      this.#pid_file = PidFile.claim(join(conf.log.dir, `${name}.pid`), name, this.#args.conf);
      logger.info(`${name} starts with ${this.#args.conf}, process ${process.pid}, Node ${process.versions.node}`);
      for (const line of [...warnings, ...openFilesWarning()]) logger.warn(line);
      const registry = processMetrics();
      const { switches } = this.#args;
      const context = { logger, registry, switches, fail: (error: unknown) => this.#fail(error) };
      const server = await this.#program.start(conf, context);
      this.#server = server;
      logger.info(`${name} ${server.description}`);
      process.stdout.write(`${name} ${server.description}; log: ${path}\n`);
      report({ listening: `${name} ${server.description}, process ${process.pid}; log: ${path}` });
    } catch (error) {
      this.#fail(error);
    }
  }

  #stop(signal: string): void {
    // Someone who asks twice does not want to wait.
    if (this.#ending) process.exit(1);
    this.#ending = true;
    this.#log?.logger.info(`${signal}: ${this.#program.name} stops`);
    const timer = setTimeout(() => {
      this.#log?.logger.error(`not stopped after ${STOP_MS_MAX} ms; the process ends now`);
      this.#end(1);
    }, STOP_MS_MAX);
    const stopped = this.#server === null ? Promise.resolve() : this.#server.close();
    stopped.then(
      () => {
        clearTimeout(timer);
        this.#log?.logger.info(`${this.#program.name} stopped`);
        this.#end(0);
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #fail(error: unknown): void {
    // An operating error explains itself; of a defect the place matters.
    const text =
      error instanceof PhxError ? error.message : error instanceof Error ? (error.stack ?? '') : String(error);
    this.#log?.logger.fatal(text);
    complain(this.#program.name, text);
    report({ failed: text });
    this.#end(1);
  }

  #end(exit_code: number): void {
    this.#pid_file?.release();
    const exit = (): void => process.exit(exit_code);
    setTimeout(exit, LOG_FLUSH_MS);
    if (this.#log === null) exit();
    else this.#log.close().then(exit, exit);
  }
}

function parse(argv: readonly string[], switches: readonly string[]): Arguments | 'usage' {
  const own = switches.map((name) => [name, { type: 'boolean' }] as const);
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...Object.fromEntries(own),
      conf: { type: 'string', short: 'c' },
      daemon: { type: 'boolean', short: 'd', default: false },
      level: { type: 'string', short: 'l' },
      version: { type: 'boolean', short: 'v', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help || values.version) return 'usage';
  if (values.conf === undefined) throw new PhxError('CONFIG', 'a configuration file is needed: -c FILE');
  const level = values.level === undefined ? null : Number(values.level);
  if (level !== null && !(Number.isInteger(level) && level >= 0 && level <= 3)) {
    throw new PhxError('CONFIG', `-l ${values.level}: a log level is 0 (info), 1 (warning), 2 (error) or 3 (fatal)`);
  }
  const given: ReadonlyMap<string, unknown> = new Map(Object.entries(values));
  return {
    conf: values.conf,
    daemon: values.daemon,
    level,
    switches: new Set(switches.filter((name) => given.get(name) === true)),
  };
}

function usage<Conf extends LifecycleConf>({ name, about, example_conf, switches }: ServerProgram<Conf>): string {
  const own = Object.entries(switches ?? {}).map(([option, lines]) => {
    return [`  --${option}\n`, ...lines.map((line) => `             ${line}\n`)].join('');
  });
  return `${name}, PhxQueue for Node ${packageVersion()}: ${about}

usage: ${name} -c FILE [-d] [-l LEVEL]${Object.keys(switches ?? {})
    .map((option) => ` [--${option}]`)
    .join('')}

  -c FILE    configuration, for example ${example_conf}
  -d         run in the background; returns when the server listens, or says why it does not
  -l LEVEL   log level in place of the configured one: 0 info, 1 warning, 2 error, 3 fatal
  -v         version and this text
  --help     this text
${own.join('')}
SIGTERM or Ctrl-C stops the server gracefully.
`;
}

function packageVersion(): string {
  // From dist/src/ts/ops/ to the package.
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../../../package.json', import.meta.url), 'utf8'));
  const isNamed = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return isNamed ? String(manifest.version) : 'unknown';
}

/** Starts the same program without -d in a session of its own, and waits until it listens or fails. */
async function startInBackground<Conf extends LifecycleConf>(
  program: ServerProgram<Conf>,
  { conf }: Arguments,
  argv: readonly string[],
): Promise<void> {
  const { name } = program;
  let stderr: number;
  try {
    const { dir } = program.loadConf(conf, () => undefined).log;
    mkdirSync(dir, { recursive: true });
    // What a process says that dies too suddenly for its log.
    stderr = openSync(join(dir, `${name}.stderr`), 'a');
  } catch (error) {
    complain(name, messageOf(error));
    return;
  }
  const [, script] = process.argv;
  assert(script !== undefined, 'a program is started by its path');
  const args = argv.filter((argument) => argument !== '-d' && argument !== '--daemon');
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', stderr, 'ipc'],
  });
  closeSync(stderr);
  await new Promise<void>((resolve) => {
    let said = false;
    const conclude = (failure: string | null): void => {
      if (!said && failure !== null) complain(name, failure);
      said = true;
      if (child.connected) child.disconnect();
      child.unref();
      resolve();
    };
    child.on('message', (message) => {
      const text = reportText(message);
      if (text === null) return;
      if (text.listening) process.stdout.write(`${text.line}\n`);
      conclude(text.listening ? null : text.line);
      said = true;
    });
    child.once('error', (error) => conclude(`cannot be started: ${error.message}`));
    child.once('exit', (code, signal) => conclude(`ended before it listened (${signal ?? `exit code ${code}`})`));
  });
}

function reportText(message: unknown): { listening: boolean; line: string } | null {
  if (typeof message !== 'object' || message === null) return null;
  if ('listening' in message) return { listening: true, line: String(message.listening) };
  if ('failed' in message) return { listening: false, line: String(message.failed) };
  return null;
}

/** Tells the process that waits for this one, if one does. */
function report(message: Report): void {
  if (process.send === undefined || !process.connected) return;
  process.send(message, () => {
    if (process.connected) process.disconnect();
  });
}

function openFilesWarning(): string[] {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return [];
  }
  const soft = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  if (soft >= OPEN_FILES_MIN) return [];
  return [`only ${soft} open files are allowed, ${OPEN_FILES_MIN} are needed under load; raise it: ulimit -n 65536`];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Says what went wrong and makes the process end with exit code 1. */
function complain(name: string, text: string): void {
  process.stderr.write(`${name}: ${text}\n`);
  process.exitCode = 1;
}
