/** Whom the master client calls, and in which order, when the replicas answer this or that. */
import test from 'ava';
import { type ErrorCode, PhxError } from '../../src/ts/errors.js';
import { type Addr, decode, encode } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import type { RpcReply } from '../../src/ts/rpc/call.js';
import { type MasterCall, MasterClient } from '../../src/ts/rpc/master_client.js';

const REPLICAS: readonly Addr[] = [1, 2, 3].map((n) => ({ ip: '127.0.0.1', port: 5000 + n, paxos_port: 6000 + n }));
const HOUR_MS = 3_600_000;

/** A return code, a redirection to a port, or an error. */
type Answer = number | { readonly redirect: number } | ErrorCode;

/** Replicas that answer from a script: the n-th call gets the n-th answer. */
class Scripted {
  readonly called: number[] = [];
  now_ms = 0;
  random = 0;
  readonly #answers: readonly Answer[];
  readonly masters: MasterClient;

  constructor(...answers: Answer[]) {
    this.#answers = answers;
    const call = async (addr: { port: number }): Promise<RpcReply> => this.#answer(addr.port);
    this.masters = new MasterClient({ call }, { now_ms: () => this.now_ms, random: () => this.random });
  }

  #answer(port: number): RpcReply {
    const answer = this.#answers[this.called.length];
    this.called.push(port - 5000);
    if (answer === undefined) throw new Error('the script is at its end');
    if (typeof answer === 'string') throw new PhxError(answer, 'as scripted');
    if (typeof answer === 'number') return { result: answer, body: new Uint8Array(0) };
    const redirect_addr = { ip: '127.0.0.1', port: 5000 + answer.redirect, paxos_port: 0 };
    return { result: RetCode.NOT_MASTER, body: encode('AddResponse', { redirect_addr }) };
  }

  async call(changes: Partial<MasterCall> = {}): Promise<number> {
    const { result } = await this.masters.call({
      route: '1000:1:0',
      candidates: REPLICAS,
      service: 'store',
      method: 'Add',
      idempotent: false,
      encodeFor: () => new Uint8Array(0),
      redirectOf: (body) => decode('AddResponse', body).redirect_addr ?? null,
      ...changes,
    });
    return result;
  }
}

test('the one that answered OK is called again, without asking others', async (t) => {
  const replicas = new Scripted(RetCode.NO_MASTER, 0, 0);
  t.is(await replicas.call(), 0);
  t.is(await replicas.call(), 0);
  t.deepEqual(replicas.called, [1, 2, 2]);
});

test('a redirection is followed', async (t) => {
  const replicas = new Scripted({ redirect: 3 }, 0, { redirect: 1 }, 0, 0);
  t.is(await replicas.call(), 0);
  t.is(await replicas.call(), 0);
  t.is(await replicas.call(), 0);
  t.deepEqual(replicas.called, [1, 3, 3, 1, 1]);
});

test('a redirection to an address that is not in the configuration is not believed', async (t) => {
  const replicas = new Scripted({ redirect: 9 }, 0);
  t.is(await replicas.call(), 0);
  t.deepEqual(replicas.called, [1, 2]);
});

test('replicas that send to each other are left alone after one try for each', async (t) => {
  const replicas = new Scripted({ redirect: 2 }, { redirect: 1 }, { redirect: 2 });
  t.is(await replicas.call(), RetCode.NOT_MASTER);
  t.deepEqual(replicas.called, [1, 2, 1]);
});

test('without any hint all get their turn, from a random one on', async (t) => {
  for (const [random, order] of [
    [0, [1, 2, 3]],
    [0.4, [2, 3, 1]],
    [0.99, [3, 1, 2]],
  ] as const) {
    const replicas = new Scripted(RetCode.NO_MASTER, RetCode.SVR_BLOCK, RetCode.NOT_MASTER);
    replicas.random = random;
    t.is(await replicas.call(), RetCode.NOT_MASTER);
    t.deepEqual(replicas.called, order);
  }
});

test('a remembered master that refuses costs no try', async (t) => {
  const replicas = new Scripted(0, RetCode.NO_MASTER, RetCode.NO_MASTER, RetCode.NO_MASTER, RetCode.NO_MASTER);
  await replicas.call();
  t.is(await replicas.call(), RetCode.NO_MASTER);
  t.deepEqual(replicas.called, [1, 1, 2, 3, 1]);
});

test('any other code is the answer, and changes nothing about who is remembered', async (t) => {
  const replicas = new Scripted(RetCode.RANGE_TOPIC, 0, RetCode.PROPOSE_FAST_REJECT, 0);
  t.is(await replicas.call(), RetCode.RANGE_TOPIC);
  replicas.random = 0.4;
  t.is(await replicas.call(), 0);
  replicas.random = 0;
  t.is(await replicas.call(), RetCode.PROPOSE_FAST_REJECT);
  t.is(await replicas.call(), 0);
  t.deepEqual(replicas.called, [1, 2, 2, 2]);
});

test('what was not sent is sent to another', async (t) => {
  const replicas = new Scripted('RPC_CONNECT', 'RPC_CONNECT', 0);
  t.is(await replicas.call(), 0);
  t.deepEqual(replicas.called, [1, 2, 3]);
});

test('what may have been carried out is never sent to another', async (t) => {
  for (const code of ['RPC_IO', 'RPC_TIMEOUT'] as const) {
    const replicas = new Scripted(0, code, 0);
    await replicas.call();
    await t.throwsAsync(replicas.call(), { code });
    // The next call is another matter; it does not begin with the one that is in trouble.
    replicas.random = 0.4;
    await replicas.call();
    t.deepEqual(replicas.called, [1, 1, 2], code);
  }
  const replicas = new Scripted(RetCode.SYS);
  t.is(await replicas.call(), RetCode.SYS);
});

test('what may be carried out twice is sent to another', async (t) => {
  for (const answer of ['RPC_IO', 'RPC_TIMEOUT', RetCode.SYS] as const) {
    const replicas = new Scripted(answer, 0);
    t.is(await replicas.call({ idempotent: true }), 0);
    t.deepEqual(replicas.called, [1, 2]);
  }
});

test('the last failure is the outcome', async (t) => {
  const replicas = new Scripted(RetCode.NO_MASTER, 'RPC_IO', 'RPC_CONNECT', 0);
  await t.throwsAsync(replicas.call({ idempotent: true }), { code: 'RPC_CONNECT' });
  t.deepEqual(replicas.called, [1, 2, 3]);
});

test('who gives up is not served by another, and the master stays remembered', async (t) => {
  const replicas = new Scripted(0, 'ABORTED', 0);
  await replicas.call();
  await t.throwsAsync(replicas.call({ idempotent: true }), { code: 'ABORTED' });
  replicas.random = 0.4;
  await replicas.call();
  t.deepEqual(replicas.called, [1, 1, 1]);
});

test('a master is remembered between an hour and an hour and a half', async (t) => {
  const replicas = new Scripted(0, 0, 0);
  await replicas.call();
  replicas.random = 0.4;
  replicas.now_ms = HOUR_MS - 1;
  await replicas.call();
  replicas.now_ms = HOUR_MS;
  await replicas.call();
  t.deepEqual(replicas.called, [1, 1, 2]);

  const longest = new Scripted(0, 0, 0);
  longest.random = 0.999;
  await longest.call();
  longest.random = 0;
  longest.now_ms = 1.49 * HOUR_MS;
  await longest.call();
  longest.now_ms = 1.5 * HOUR_MS;
  await longest.call();
  t.deepEqual(longest.called, [3, 3, 1]);
});

test('each route has a master of its own', async (t) => {
  const replicas = new Scripted(0, 0, 0, 0);
  await replicas.call({ route: 'a' });
  replicas.random = 0.99;
  await replicas.call({ route: 'b' });
  await replicas.call({ route: 'a' });
  await replicas.call({ route: 'b' });
  t.deepEqual(replicas.called, [1, 3, 1, 3]);
});

test('the request is encoded for the one that it goes to', async (t) => {
  const targets: number[] = [];
  const replicas = new Scripted({ redirect: 3 }, 0);
  const encodeFor = (target: Addr): Uint8Array => {
    targets.push(target.paxos_port);
    return new Uint8Array(0);
  };
  await replicas.call({ encodeFor });
  t.deepEqual(targets, [6001, 6003]);
});

test('no replicas are a configuration error', async (t) => {
  await t.throwsAsync(new Scripted().call({ candidates: [] }), { code: 'CONFIG' });
});
