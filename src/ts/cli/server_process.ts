import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { PhxError } from '../errors.js';

/** How long a server may take to stop gracefully before it is killed, in milliseconds. */
const STOP_WITHIN_MS = 15_000;
/** How much of what a server writes to its standard error is kept, in characters; the newest. */
const ERROR_TEXT_MAX = 4_000;

export interface ServerProcessOptions {
  readonly name: string;
  /** Path of the launcher in bin/. */
  readonly launcher: string;
  /** Path of its configuration, relative to `folder`. */
  readonly conf: string;
  /** Working directory. */
  readonly folder: string;
  /** Receives each line that the server prints. */
  readonly onLine?: (line: string) => void;
}

/** A server that runs as a child process and can be stopped, killed, paused and started again. */
export class ServerProcess {
  readonly name: string;
  readonly #options: ServerProcessOptions;
  #child: ChildProcess | null = null;
  #closed: Promise<unknown> = Promise.resolve();
  #error_text = '';
  #exit = '';

  constructor(options: ServerProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /**
   * Starts the process, with further arguments if any; it needs some time until it serves. Throws PhxError CONFIG if it
   * runs already.
   */
  start(args: readonly string[] = []): void {
    if (this.#child !== null) throw new PhxError('CONFIG', `${this.name} runs already`);
    const { launcher, conf, folder, onLine } = this.#options;
    const child = spawn(process.execPath, [launcher, '-c', conf, ...args], {
      cwd: folder,
      stdio: ['ignore', onLine === undefined ? 'ignore' : 'pipe', 'pipe'],
    });
    this.#child = child;
    this.#error_text = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#error_text = (this.#error_text + text).slice(-ERROR_TEXT_MAX);
    });
    if (child.stdout !== null && onLine !== undefined) createInterface({ input: child.stdout }).on('line', onLine);
    child.once('exit', (code, signal) => {
      this.#exit = signal === null ? `exit code ${code}` : `signal ${signal}`;
      this.#child = null;
    });
    this.#closed = once(child, 'close');
  }

  /** Sends a signal; does nothing if the process is gone. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Kills the process as a power cut would, without a chance to finish anything, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#closed;
  }

  /** Stops the process gracefully and waits until it is gone. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    // A paused process hears nothing but this.
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  /** How the process ended, with the end of what it wrote to standard error. */
  async lastWords(): Promise<string> {
    await this.#closed;
    return [this.#exit, this.#error_text.trim()].filter((text) => text !== '').join(': ');
  }
}
