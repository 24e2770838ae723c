import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import type { Applied, Mastership } from '../../src/ts/paxos/replicated_log.js';
import { CommandKind, type CursorUpdate, decodeCommand } from '../../src/ts/store/command.js';
import { CursorSync } from '../../src/ts/store/cursor_sync.js';

class Fixture {
  role: Mastership = { role: 'master' };
  fail: PhxError | null = null;
  readonly cursors = new Map<string, { prev: number; replicated_prev: number }>();
  readonly proposed: (readonly CursorUpdate[])[] = [];
  readonly failures: string[] = [];
  readonly defects: unknown[] = [];
  readonly delays_ms: number[] = [];
  #timer: (() => void) | null = null;

  readonly sync = new CursorSync({
    log: { mastership: () => this.role, propose: (_group, parts) => this.#propose(parts) },
    readCursor: (queue_id, group) => this.cursors.get(`${queue_id}:${group}`) ?? { prev: 0, replicated_prev: 0 },
    interval_ms: 500,
    timers: {
      after: (delay_ms, callback) => {
        this.delays_ms.push(delay_ms);
        this.#timer = callback;
        return () => {
          this.#timer = null;
        };
      },
    },
    onFailure: (_group, error) => this.failures.push(error.code),
    onDefect: (error) => this.defects.push(error),
  });

  acknowledge(queue_id: number, prev: number): void {
    const cursor = this.cursors.get(`${queue_id}:1`) ?? { prev: 0, replicated_prev: 0 };
    this.cursors.set(`${queue_id}:1`, { ...cursor, prev });
    this.sync.mark(0, queue_id, 1);
  }

  get armed(): boolean {
    return this.#timer !== null;
  }

  /** Lets the interval pass and waits for the round that starts. */
  async tick(): Promise<void> {
    const timer = this.#timer;
    this.#timer = null;
    timer?.();
    await this.sync.flush();
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #propose(parts: readonly Uint8Array[]): Promise<Applied> {
    if (this.fail !== null) throw this.fail;
    const command = decodeCommand(Buffer.concat(parts));
    if (command.kind !== CommandKind.cursors) throw new Error('not CURSORS');
    this.proposed.push(command.updates);
    for (const { queue_id, consumer_group, prev } of command.updates) {
      const key = `${queue_id}:${consumer_group}`;
      this.cursors.set(key, { prev: this.cursors.get(key)?.prev ?? prev, replicated_prev: prev });
    }
    return { instance: 1, result: null };
  }
}

test('nothing is proposed and no timer runs while nothing changed', async (t) => {
  const fixture = new Fixture();
  await fixture.tick();
  t.false(fixture.armed);
  t.deepEqual(fixture.proposed, []);
});

test('changes of one interval go into one command with the latest prev', async (t) => {
  const fixture = new Fixture();
  fixture.acknowledge(0, 10);
  fixture.acknowledge(0, 20);
  fixture.acknowledge(3, 5);
  t.deepEqual(fixture.delays_ms, [500]);
  await fixture.tick();
  t.deepEqual(fixture.proposed, [
    [
      { queue_id: 0, consumer_group: 1, prev: 20 },
      { queue_id: 3, consumer_group: 1, prev: 5 },
    ],
  ]);
  t.is(fixture.sync.waiting, 0);
  t.false(fixture.armed);
});

test('a failed proposal is reported and tried again after the interval', async (t) => {
  const fixture = new Fixture();
  fixture.fail = new PhxError('PROPOSE_TIMEOUT', 'not chosen in time');
  fixture.acknowledge(0, 10);
  await fixture.tick();
  t.deepEqual([...new Set(fixture.failures)], ['PROPOSE_TIMEOUT']);
  t.true(fixture.armed);
  fixture.fail = null;
  await fixture.tick();
  t.is(fixture.proposed.length, 1);
  t.false(fixture.armed);
});

test('a replica that does not lead proposes nothing and forgets', async (t) => {
  const fixture = new Fixture();
  fixture.role = { role: 'follower', master: 2 };
  fixture.acknowledge(0, 10);
  await fixture.tick();
  t.deepEqual(fixture.proposed, []);
  t.is(fixture.sync.waiting, 0);
  t.false(fixture.armed);
});

test('close proposes what waits', async (t) => {
  const fixture = new Fixture();
  fixture.acknowledge(0, 10);
  await fixture.sync.close();
  t.is(fixture.proposed.length, 1);
  t.false(fixture.armed);
  t.deepEqual(fixture.defects, []);
});

test('abandon gives up what waits', async (t) => {
  const fixture = new Fixture();
  fixture.acknowledge(0, 10);
  fixture.sync.abandon();
  t.false(fixture.armed);
  t.is(fixture.sync.waiting, 0);
  fixture.acknowledge(0, 20);
  await fixture.sync.flush();
  t.deepEqual(fixture.proposed, []);
  t.false(fixture.armed);
});
