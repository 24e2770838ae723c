/** Processes that are measured, each with one log: what one engine leaves in memory does not burden the other. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { assert } from '../../src/ts/errors.js';
import { type Command, type Figures, hasFigures } from './command.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

export class MeasuredProcess {
  private readonly child: ChildProcess;

  constructor(profile: string | null) {
    const profiling = profile === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
    this.child = fork(WORKER, [], { execArgv: ['--expose-gc', ...profiling], serialization: 'advanced' });
  }

  /** @throws Error if the command fails or the process ends */
  async ask<K extends string>(command: Command, keys: readonly K[] = []): Promise<Figures<K>> {
    const ended = new AbortController();
    const onExit = (): void => ended.abort(new Error(`the process ended at ${command.task}`));
    this.child.once('exit', onExit);
    try {
      const answer = once(this.child, 'message', { signal: ended.signal });
      this.child.send(command);
      const [message] = await answer;
      return figuresIn(message, command, keys);
    } finally {
      this.child.off('exit', onExit);
    }
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.disconnect();
    await exited;
  }
}

function figuresIn<K extends string>(message: unknown, command: Command, keys: readonly K[]): Figures<K> {
  assert(typeof message === 'object' && message !== null, 'the process answers with an object');
  if ('failure' in message) throw new Error(`${command.task} failed: ${String(message.failure)}`);
  const figures = 'figures' in message ? message.figures : null;
  assert(hasFigures(figures, keys), `${command.task} answers with its figures`);
  return figures;
}
