/** The RPC server as bytes on sockets: what the original's clients send, and what attackers might. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { AssertionError, assert, PhxError } from '../../src/ts/errors.js';
import { encode } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { type RpcAnswer, RpcServer, type RpcServerOptions } from '../../src/ts/rpc/server.js';
import { capturedExchanges } from '../fixtures/wire.js';
import { RawConnection, request } from '../support/raw_connection.js';

const HELLO = encode('StringValue', { value: 'hello' });
const QUIET = { warn: () => undefined };

/** A method whose calls wait until they are told what to answer. */
class HeldMethod {
  readonly bodies: Uint8Array[] = [];
  readonly #answers: ((answer: RpcAnswer) => void)[] = [];
  #wake: () => void = () => undefined;

  readonly run = (body: Uint8Array): Promise<RpcAnswer> => {
    this.bodies.push(body);
    const answer = new Promise<RpcAnswer>((resolve) => this.#answers.push(resolve));
    this.#wake();
    return answer;
  };

  async called(times: number): Promise<void> {
    while (this.bodies.length < times) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  answer(call: number, text: string): void {
    this.#answers[call]?.({ result: 0, body: [Buffer.from(text)] });
  }
}

async function serve(t: ExecutionContext, options: Partial<RpcServerOptions> = {}): Promise<RpcServer> {
  const server = await RpcServer.listen({
    host: '127.0.0.1',
    port: 0,
    service: 'store',
    methods: {},
    logger: QUIET,
    ...options,
  });
  t.teardown(() => server.close(0));
  return server;
}

async function open(t: ExecutionContext, server: RpcServer): Promise<RawConnection> {
  const connection = await RawConnection.open(server.port);
  t.teardown(() => connection.socket.destroy());
  return connection;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

async function assertEchoes(t: ExecutionContext, connection: RawConnection): Promise<void> {
  connection.send(request('store/PHXEcho', HELLO));
  const reply = await connection.reply();
  t.is(reply.headers.get('x-phxrpc-result'), '0');
  t.deepEqual(reply.body, Buffer.from(HELLO));
}

async function assertRefused(
  t: ExecutionContext,
  connection: RawConnection,
  result: number,
  status = '200 OK',
): Promise<void> {
  const reply = await connection.reply();
  t.is(reply.status_line, `HTTP/1.1 ${status}`);
  t.is(reply.headers.get('x-phxrpc-result'), String(result));
  t.is(reply.headers.get('content-length'), '0');
}

for (const service of ['store', 'lock', 'scheduler'] as const) {
  test(`captured requests to the ${service} arrive whole, and their replies leave whole`, async (t) => {
    const captured = capturedExchanges().filter(({ uri }) => uri.startsWith(`/phxqueue_phxrpc/${service}/`));
    t.true(captured.length > 0);
    for (const { uri, request: bytes, request_body, response_body, result } of captured) {
      const name = uri.slice(uri.lastIndexOf('/') + 1);
      const seen: Buffer[] = [];
      const method = async (body: Uint8Array): Promise<RpcAnswer> => {
        seen.push(Buffer.from(body));
        return { result, body: [response_body] };
      };
      const server = await serve(t, { service, methods: { [name]: method } });
      const connection = await open(t, server);
      const keeps = bytes.includes('Connection: Keep-Alive');
      for (let calls = 0; calls < (keeps ? 2 : 1); calls += 1) {
        connection.send(bytes);
        const reply = await connection.reply();
        t.is(reply.headers.get('x-phxrpc-result'), String(result), uri);
        t.is(reply.headers.get('content-length'), String(response_body.length), uri);
        t.deepEqual(reply.body, response_body, uri);
        t.deepEqual(seen.at(-1), request_body, uri);
      }
      if (!keeps) t.is(await connection.end(), '', uri);
    }
  });
}

test('the echo of the original is answered byte for byte', async (t) => {
  const captured = capturedExchanges().filter(({ uri }) => uri.endsWith('/PHXEcho'));
  t.true(captured.length > 0);
  for (const { uri, request: bytes, response_body } of captured) {
    const service = uri.includes('/store/') ? 'store' : uri.includes('/lock/') ? 'lock' : 'scheduler';
    const connection = await open(t, await serve(t, { service }));
    connection.send(bytes);
    t.deepEqual((await connection.reply()).body, response_body);
  }
});

test('a connection of HTTP/1.0 stays open if the request asks for it, however it is spelled', async (t) => {
  const server = await serve(t);
  const connection = await open(t, server);
  for (const header of ['Connection: Keep-Alive', 'connection: keep-alive', 'CONNECTION: KEEP-ALIVE']) {
    connection.send(request('store/PHXEcho', HELLO, [header]));
    const reply = await connection.reply();
    t.is(reply.status_line, 'HTTP/1.1 200 OK');
    t.is(reply.headers.get('connection'), 'keep-alive');
    t.false(reply.headers.has('transfer-encoding'));
  }
  t.is(server.stats().connections, 1);
  t.is(server.stats().requests, 3);
});

test('without keep-alive there is one reply, then the end', async (t) => {
  const server = await serve(t);
  for (const headers of [[], ['Connection: '], ['Connection: close']]) {
    const connection = await open(t, server);
    connection.send(request('store/PHXEcho', HELLO, headers));
    t.deepEqual((await connection.reply()).body, Buffer.from(HELLO));
    t.is(await connection.end(), '');
  }
});

test('an empty reply has its length, too', async (t) => {
  const server = await serve(t);
  const connection = await open(t, server);
  connection.send(request('store/PHXEcho', ''));
  await assertRefused(t, connection, 0);
});

test('requests arrive byte by byte, several in one piece, or in chunks', async (t) => {
  const server = await serve(t);
  const connection = await open(t, server);
  for (const byte of request('store/PHXEcho', HELLO)) {
    connection.send(Buffer.of(byte));
    await turn();
  }
  t.deepEqual((await connection.reply()).body, Buffer.from(HELLO));

  const one = request('store/PHXEcho', HELLO);
  connection.send(Buffer.concat([one, one, one.subarray(0, 20)]));
  connection.send(one.subarray(20));
  for (let replies = 0; replies < 3; replies += 1) t.deepEqual((await connection.reply()).body, Buffer.from(HELLO));

  connection.send('POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n');
  connection.send(Buffer.concat([Buffer.from('3\r\n'), HELLO.subarray(0, 3), Buffer.from('\r\n')]));
  connection.send(Buffer.concat([Buffer.from('4\r\n'), HELLO.subarray(3), Buffer.from('\r\n0\r\n\r\n')]));
  t.deepEqual((await connection.reply()).body, Buffer.from(HELLO));
});

test('replies come in the order of the requests, whichever is done first', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run } });
  const connection = await open(t, server);
  connection.send(Buffer.concat([request('store/Get', 'first'), request('store/Get', 'second')]));
  await held.called(2);
  held.answer(1, 'late');
  held.answer(0, 'early');
  t.is((await connection.reply()).body.toString(), 'early');
  t.is((await connection.reply()).body.toString(), 'late');
  t.deepEqual(
    held.bodies.map(String),
    [Buffer.from('first'), Buffer.from('second')].map((body) => String(new Uint8Array(body))),
  );
});

test('parts of a reply are sent one after the other', async (t) => {
  const parts = [Buffer.from('a'), Buffer.alloc(0), Buffer.from('bc')];
  const server = await serve(t, { methods: { Get: async () => ({ result: -10102, body: parts }) } });
  const connection = await open(t, server);
  connection.send(request('store/Get', ''));
  const reply = await connection.reply();
  t.is(reply.body.toString(), 'abc');
  t.is(reply.headers.get('content-length'), '3');
  t.is(reply.headers.get('x-phxrpc-result'), '-10102');
});

test('what is not offered is refused with a result', async (t) => {
  const server = await serve(t);
  const connection = await open(t, server);
  for (const path of ['store/Nonsense', 'lock/PHXEcho', 'store/constructor', 'store/PHXEcho?x', 'store/']) {
    connection.send(request(path, HELLO));
    await assertRefused(t, connection, -1, '404 Not Found');
  }
  connection.send('GET /phxqueue_phxrpc/store/PHXEcho HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n');
  const reply = await connection.reply();
  t.is(reply.status_line, 'HTTP/1.1 405 Method Not Allowed');
  t.is(reply.headers.get('allow'), 'POST');
  t.is(reply.headers.get('x-phxrpc-result'), '-1');
  connection.send(request('store/PHXEcho', HELLO, ['Connection: Keep-Alive', 'Expect: miracles']));
  await assertRefused(t, connection, -22, '417 Expectation Failed');
  await assertEchoes(t, connection);
});

test('a body that is not the message gets -22, another failure -1, and the connection lives on', async (t) => {
  const server = await serve(t, {
    methods: {
      Add: async () => {
        throw new PhxError('LOG_IO', 'the disk is gone');
      },
    },
  });
  const connection = await open(t, server);
  connection.send(request('store/PHXEcho', 'no protobuf'));
  await assertRefused(t, connection, -22);
  connection.send(request('store/Add', ''));
  await assertRefused(t, connection, RetCode.SYS);
  await assertEchoes(t, connection);
});

test('a defect is reported as one, not answered', async (t) => {
  const reported = new Promise<unknown>((resolve) => {
    const broken = async (): Promise<RpcAnswer> => {
      assert(false, 'this holds');
    };
    const sent = serve(t, { methods: { Get: broken }, onDefect: resolve }).then((server) => open(t, server));
    sent.then((connection) => connection.send(request('store/Get', '')));
  });
  t.true((await reported) instanceof AssertionError);
});

test('a body that is too large is refused, and the connection lives on', async (t) => {
  const server = await serve(t, { limits: { body_bytes_max: 1000 } });
  const connection = await open(t, server);
  connection.send(request('store/PHXEcho', Buffer.alloc(2_000_000)));
  await assertRefused(t, connection, RetCode.SIZE_TOO_LARGE);
  // One more byte than allowed, without saying so before.
  connection.send('POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n');
  connection.send(`3e8\r\n${'x'.repeat(1000)}\r\n`);
  connection.send('1\r\nx\r\n0\r\n\r\n');
  await assertRefused(t, connection, RetCode.SIZE_TOO_LARGE);
  await assertEchoes(t, connection);
  t.is(server.stats().oversized, 2);
  t.is(server.stats().buffered_bytes, 0);
});

test('a body that is too large and never ends is refused, and its connection closed', async (t) => {
  const server = await serve(t, { limits: { body_bytes_max: 1000, discard_ms: 50 }, oversize_result: -7 });
  const connection = await open(t, server);
  connection.send(
    'POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 5000\r\n\r\nabc',
  );
  const reply = await connection.reply();
  t.is(reply.headers.get('x-phxrpc-result'), '-7');
  t.is(reply.headers.get('connection'), 'close');
  t.is(await connection.end(), '');
});

test('who asks before it sends its body is told to go on, or refused at once', async (t) => {
  const server = await serve(t, { limits: { body_bytes_max: 1000 } });
  const asking = await open(t, server);
  const head = (length: number): string =>
    `POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
  asking.send(head(HELLO.length));
  t.is((await asking.reply()).status_line, 'HTTP/1.1 100 Continue');
  asking.send(HELLO);
  t.deepEqual((await asking.reply()).body, Buffer.from(HELLO));
  asking.send(head(1001));
  await assertRefused(t, asking, RetCode.SIZE_TOO_LARGE);
  t.is(await asking.end(), '');
});

test('more requests than may be in work are refused as overload', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run }, limits: { requests_max: 1 } });
  const first = await open(t, server);
  const second = await open(t, server);
  first.send(request('store/Get', ''));
  await held.called(1);
  t.is(server.stats().requests_in_work, 1);
  second.send(request('store/Get', ''));
  await assertRefused(t, second, RetCode.PROPOSE_FAST_REJECT);
  held.answer(0, 'done');
  t.is((await first.reply()).body.toString(), 'done');
  await assertEchoes(t, second);
  t.is(server.stats().overloads, 1);
});

test('one connection gets no more than its share', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run }, limits: { requests_per_connection_max: 2 } });
  const greedy = await open(t, server);
  greedy.send(Buffer.concat([1, 2, 3].map(() => request('store/Get', ''))));
  await held.called(2);
  const other = await open(t, server);
  await assertEchoes(t, other);
  held.answer(0, 'one');
  held.answer(1, 'two');
  t.is((await greedy.reply()).body.toString(), 'one');
  t.is((await greedy.reply()).body.toString(), 'two');
  await assertRefused(t, greedy, RetCode.PROPOSE_FAST_REJECT);
});

test('bodies that arrive slowly cannot fill the memory', async (t) => {
  const server = await serve(t, { limits: { buffered_bytes_max: 1500 } });
  const slow = await open(t, server);
  slow.send('POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.0\r\nContent-Length: 2000\r\n\r\n');
  slow.send(Buffer.alloc(1200));
  await until(() => server.stats().buffered_bytes === 1200);
  const other = await open(t, server);
  other.send(request('store/PHXEcho', encode('StringValue', { value: 'x'.repeat(500) })));
  await assertRefused(t, other, RetCode.PROPOSE_FAST_REJECT);
  await assertEchoes(t, other);
  slow.socket.destroy();
  await until(() => server.stats().buffered_bytes === 0);
  t.is(server.stats().malformed, 1);
});

test('replies that nobody takes cannot fill the memory', async (t) => {
  const reply = Buffer.alloc(32 * 1024 * 1024);
  const server = await serve(t, {
    methods: { Get: async () => ({ result: 0, body: [reply] }) },
    limits: { buffered_bytes_max: reply.length },
  });
  const deaf = await open(t, server);
  deaf.socket.pause();
  deaf.send(request('store/Get', ''));
  await until(() => server.stats().buffered_bytes === reply.length);
  const other = await open(t, server);
  other.send(request('store/PHXEcho', HELLO));
  await assertRefused(t, other, RetCode.PROPOSE_FAST_REJECT);
  deaf.socket.destroy();
  await until(() => server.stats().buffered_bytes === 0);
  await assertEchoes(t, other);
});

test('a connection too many gets one refusal', async (t) => {
  const server = await serve(t, { limits: { connections_max: 1 } });
  const first = await open(t, server);
  await assertEchoes(t, first);
  const surplus = await open(t, server);
  surplus.send(request('store/PHXEcho', HELLO));
  await assertRefused(t, surplus, RetCode.PROPOSE_FAST_REJECT);
  t.is(await surplus.end(), '');
  await assertEchoes(t, first);
});

test('a request that does not arrive in time is refused, its headers as well as its body', async (t) => {
  const server = await serve(t, { limits: { request_timeout_ms: 100 } });
  const pieces = ['POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.0\r\nContent-Le', 'ngth: 7\r\n\r\nabc', ''];
  for (const [index] of pieces.entries()) {
    const slow = await open(t, server);
    slow.send(pieces.slice(0, index).join(''));
    await assertRefused(t, slow, -202, '408 Request Timeout');
    t.is(await slow.end(), '');
  }
});

test('a connection that rests too long is closed', async (t) => {
  const server = await serve(t, { limits: { idle_timeout_ms: 100 } });
  const connection = await open(t, server);
  await assertEchoes(t, connection);
  t.is(await connection.end(), '');
});

test('bytes that are no request are refused, and the connection is closed', async (t) => {
  const server = await serve(t);
  const long = 'x'.repeat(9_000);
  const nonsense: readonly (readonly [string, string])[] = [
    ['\x16\x03\x01\x02\x00\x01\x00', '400 Bad Request'],
    ['hello\r\n\r\n', '400 Bad Request'],
    ['POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.0\r\nContent-Length: x\r\n\r\n', '400 Bad Request'],
    ['POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n', '400 Bad Request'],
    ['POST /phxqueue_phxrpc/store/PHXEcho HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', '400 Bad Request'],
    [`POST /${long} HTTP/1.0\r\n\r\n`, '431 Request Header Fields Too Large'],
    [`POST / HTTP/1.0\r\nX: ${long}\r\n\r\n`, '431 Request Header Fields Too Large'],
  ];
  for (const [bytes, status] of nonsense) {
    const connection = await open(t, server);
    connection.send(bytes);
    await assertRefused(t, connection, -22, status);
    t.is(await connection.end(), '');
  }
});

test('a good request that is followed by nonsense gets its reply', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run } });
  const connection = await open(t, server);
  connection.send(request('store/Get', ''));
  connection.send('nonsense\r\n\r\n');
  await held.called(1);
  await until(() => server.stats().malformed === 1);
  held.answer(0, 'done');
  t.is((await connection.reply()).body.toString(), 'done');
  await assertRefused(t, connection, -22, '400 Bad Request');
  t.is(await connection.end(), '');
});

test('a client that leaves leaves nothing behind', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run } });
  const connection = await open(t, server);
  connection.send(request('store/Get', 'abc'));
  await held.called(1);
  t.is(server.stats().buffered_bytes, 3);
  connection.socket.destroy();
  await until(() => server.stats().connections === 0);
  held.answer(0, 'for nobody');
  await until(() => server.stats().requests_in_work === 0);
  await until(() => server.stats().buffered_bytes === 0);
  t.is(server.stats().requests, 1);
});

test('a server that drains answers, and ends each connection with its next reply', async (t) => {
  const server = await serve(t);
  const connection = await open(t, server);
  await assertEchoes(t, connection);
  server.drain();
  for (const client of [connection, await open(t, server)]) {
    client.send(request('store/PHXEcho', HELLO, ['Connection: keep-alive']));
    const reply = await client.reply();
    t.deepEqual(reply.body, Buffer.from(HELLO));
    t.is(reply.headers.get('connection'), 'close');
    t.is(await client.end(), '');
  }
});

test('closing lets what is in work be answered, and nothing else', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run } });
  const { port } = server;
  const resting = await open(t, server);
  await assertEchoes(t, resting);
  const working = await open(t, server);
  working.send(request('store/Get', ''));
  await held.called(1);
  const closed = server.close(60_000);
  t.is(await resting.end(), '');
  await t.throwsAsync(RawConnection.open(port), { code: 'ECONNREFUSED' });
  held.answer(0, 'done');
  const reply = await working.reply();
  t.is(reply.body.toString(), 'done');
  t.is(reply.headers.get('connection'), 'close');
  t.is(await working.end(), '');
  await closed;
  await server.close(0);
  t.is(server.stats().connections, 0);
});

test('closing waits no longer than it is told', async (t) => {
  const held = new HeldMethod();
  const server = await serve(t, { methods: { Get: held.run } });
  const working = await open(t, server);
  working.send(request('store/Get', ''));
  await held.called(1);
  await server.close(20);
  t.is(await working.end(), '');
});

test('an address that is taken is a clear error', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.teardown(() => other.close());
  const address = other.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const error = await t.throwsAsync(serve(t, { port }), { instanceOf: PhxError });
  t.is(error.code, 'CONFIG');
  t.regex(error.message, new RegExp(`^cannot listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`));
});

test('clients cannot fill the log', async (t) => {
  const lines: string[] = [];
  const server = await serve(t, { logger: { warn: (line) => lines.push(line) } });
  const connection = await open(t, server);
  for (let calls = 0; calls < 50; calls += 1) {
    connection.send(request('store/Nonsense', ''));
    await assertRefused(t, connection, -1, '404 Not Found');
  }
  t.is(server.stats().malformed, 50);
  t.true(lines.length >= 1 && lines.length < 50, `${lines.length} lines`);
  t.is(lines[0], 'refused POST /phxqueue_phxrpc/store/Nonsense: 404');
});
