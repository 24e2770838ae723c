/** The RPC client against our server, and against servers that behave as the original's, or badly. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { RpcClient, type RpcClientOptions } from '../../src/ts/rpc/client.js';
import { type RpcAnswer, RpcServer } from '../../src/ts/rpc/server.js';

const BODY = Buffer.from('body');
/** Longer than any test takes: what waits for it fails the test. */
const FOREVER_MS = 120_000;

interface Place {
  readonly ip: string;
  readonly port: number;
}

async function serve(t: ExecutionContext, run: (body: Uint8Array) => Promise<RpcAnswer>): Promise<RpcServer> {
  const server = await RpcServer.listen({
    host: '127.0.0.1',
    port: 0,
    service: 'store',
    methods: { Get: run },
    logger: { warn: () => undefined },
  });
  t.teardown(() => server.close(0));
  return server;
}

/** A server that reads a request (which must come in one piece) and does as told. Counts connections and requests. */
async function rawServer(t: ExecutionContext, onRequest: (socket: Socket, text: string) => void) {
  const sockets = new Set<Socket>();
  const seen = { connections: 0, requests: [] as string[] };
  const server = createServer((socket) => {
    seen.connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (piece) => {
      seen.requests.push(piece.toString('latin1'));
      onRequest(socket, piece.toString('latin1'));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { place: placeOf(server), seen };
}

function placeOf(server: { address(): unknown }): Place {
  const address = server.address();
  if (typeof address !== 'object' || address === null || !('port' in address)) throw new Error('it listens');
  return { ip: '127.0.0.1', port: Number(address.port) };
}

function client(t: ExecutionContext, options: RpcClientOptions = {}): RpcClient {
  const opened = new RpcClient({ socket_timeout_ms: FOREVER_MS, connect_timeout_ms: FOREVER_MS, ...options });
  t.teardown(() => opened.close());
  return opened;
}

async function failure(t: ExecutionContext, call: Promise<unknown>): Promise<PhxError> {
  const error = await t.throwsAsync(call, { instanceOf: PhxError });
  if (error === undefined) throw new Error('it fails');
  return error;
}

test('a call brings back the result and the body, and connections are used again', async (t) => {
  const server = await serve(t, async (body) => ({ result: 10102, body: [body, Buffer.from('!')] }));
  const rpc = client(t);
  for (let calls = 0; calls < 5; calls += 1) {
    const reply = await rpc.call({ ip: '127.0.0.1', port: server.port }, 'store', 'Get', BODY);
    t.is(reply.result, 10102);
    t.is(Buffer.from(reply.body).toString(), 'body!');
  }
  // The pool may open a second one before it notes that the first is free again.
  t.true(server.stats().connections <= 2);
});

test('large bodies go both ways', async (t) => {
  const server = await serve(t, async (body) => ({ result: 0, body: [body] }));
  const large = Buffer.alloc(5_000_000, 'abcdefg');
  const reply = await client(t).call({ ip: '127.0.0.1', port: server.port }, 'store', 'Get', large);
  t.is(Buffer.compare(reply.body, large), 0);
});

test('many calls at a time share few connections', async (t) => {
  const server = await serve(t, async (body) => ({ result: 0, body: [body] }));
  const rpc = client(t, { connections_max: 4 });
  const bodies = Array.from({ length: 200 }, (_, index) => String(index));
  const replies = await Promise.all(
    bodies.map((body) => rpc.call({ ip: '127.0.0.1', port: server.port }, 'store', 'Get', Buffer.from(body))),
  );
  t.deepEqual(
    replies.map(({ body }) => Buffer.from(body).toString()),
    bodies,
  );
  t.true(server.stats().connections <= 4);
});

test('a server of HTTP/1.0 that sends neither Connection nor Date is understood', async (t) => {
  const { place, seen } = await rawServer(t, (socket) => {
    socket.write('HTTP/1.0 200 OK\r\nX-PHXRPC-Result: -10319\r\nContent-Length: 3\r\n\r\nabc');
  });
  const rpc = client(t);
  for (let calls = 0; calls < 2; calls += 1) {
    const reply = await rpc.call(place, 'store', 'Add', BODY);
    t.is(reply.result, -10319);
    t.is(Buffer.from(reply.body).toString(), 'abc');
  }
  t.regex(seen.requests[0] ?? '', /^POST \/phxqueue_phxrpc\/store\/Add HTTP\/1\.1\r\n/);
  t.regex(seen.requests[0] ?? '', /content-length: 4\r\n/i);
  t.regex(seen.requests[0] ?? '', /connection: keep-alive\r\n/i);
});

test('a reply without length on a connection that stays open is an empty one', async (t) => {
  const { place } = await rawServer(t, (socket) => {
    socket.write('HTTP/1.0 200 OK\r\nX-PHXRPC-Result: 0\r\n\r\n');
  });
  const reply = await client(t).call(place, 'store', 'Add', BODY);
  t.is(reply.result, 0);
  t.is(reply.body.length, 0);
});

test('a reply without result is -1', async (t) => {
  const { place } = await rawServer(t, (socket) => {
    socket.write('HTTP/1.0 200 OK\r\n\r\n');
  });
  t.is((await client(t).call(place, 'store', 'Add', BODY)).result, -1);
  const nonsense = await rawServer(t, (socket) => {
    socket.write('HTTP/1.0 200 OK\r\nX-PHXRPC-Result: zero\r\nContent-Length: 0\r\n\r\n');
  });
  t.is((await client(t).call(nonsense.place, 'store', 'Add', BODY)).result, -1);
});

test('replies in chunks, and up to the end of the connection, are taken', async (t) => {
  const chunked = await rawServer(t, (socket) => {
    socket.write(
      'HTTP/1.1 200 OK\r\nX-PHXRPC-Result: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n',
    );
  });
  t.is(Buffer.from((await client(t).call(chunked.place, 'store', 'Get', BODY)).body).toString(), 'abc');
  const closing = await rawServer(t, (socket) => {
    socket.end('HTTP/1.0 200 OK\r\nX-PHXRPC-Result: 0\r\nConnection: close\r\n\r\nabc');
  });
  t.is(Buffer.from((await client(t).call(closing.place, 'store', 'Get', BODY)).body).toString(), 'abc');
});

test('where nobody listens, nothing was sent', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const place = placeOf(server);
  server.close();
  await once(server, 'close');
  const error = await failure(t, client(t).call(place, 'store', 'Add', BODY));
  t.is(error.code, 'RPC_CONNECT');
  t.true(error.retryable);
  t.regex(error.message, /^store\.Add of 127\.0\.0\.1:\d+ could not be sent: .*ECONNREFUSED/);
});

test('a connection that ends instead of a reply, or within it, leaves the outcome open', async (t) => {
  for (const bytes of [
    '',
    'HTTP/1.0 200 OK\r\nX-PHXRPC-Re',
    'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabc',
    'nonsense\r\n\r\n',
  ]) {
    const { place } = await rawServer(t, (socket) => socket.end(bytes));
    const error = await failure(t, client(t).call(place, 'store', 'Add', BODY));
    t.is(error.code, 'RPC_IO', JSON.stringify(bytes));
  }
});

test('no reply in time leaves the outcome open, and frees the connection', async (t) => {
  const { place, seen } = await rawServer(t, () => undefined);
  const rpc = client(t, { connections_max: 1, connect_timeout_ms: 10_000 });
  for (let calls = 1; calls <= 2; calls += 1) {
    const error = await failure(t, rpc.call(place, 'store', 'Add', BODY, { timeout_ms: 500 }));
    t.is(error.code, 'RPC_TIMEOUT');
    t.is(seen.connections, calls);
  }
});

test('a call that waits for a connection in vain was not sent', async (t) => {
  let answer: () => void = () => undefined;
  const { place, seen } = await rawServer(t, (socket) => {
    answer = () => socket.write('HTTP/1.1 200 OK\r\nX-PHXRPC-Result: 0\r\nContent-Length: 0\r\n\r\n');
  });
  const rpc = client(t, { connections_max: 1 });
  const first = rpc.call(place, 'store', 'Add', Buffer.from('first'));
  const second = await failure(t, rpc.call(place, 'store', 'Add', Buffer.from('second'), { timeout_ms: 300 }));
  t.is(second.code, 'RPC_CONNECT');
  t.is(seen.requests.length, 1);
  answer();
  t.is((await first).result, 0);
  // The one that gave up was not sent after all.
  const third = rpc.call(place, 'store', 'Add', Buffer.from('third'));
  while (seen.requests.length < 2) await new Promise((resolve) => setImmediate(resolve));
  answer();
  await third;
  t.true(seen.requests.at(-1)?.endsWith('third'));
  t.false(seen.requests.some((text) => text.endsWith('second')));
});

test('a call can be given up before it is sent and while it runs', async (t) => {
  const { place, seen } = await rawServer(t, () => undefined);
  const rpc = client(t);
  t.is((await failure(t, rpc.call(place, 'store', 'Add', BODY, { signal: AbortSignal.abort() }))).code, 'ABORTED');
  t.is(seen.connections, 0);
  const controller = new AbortController();
  const call = rpc.call(place, 'store', 'Add', BODY, { signal: controller.signal });
  while (seen.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  const error = await failure(t, call);
  t.is(error.code, 'ABORTED');
  t.false(error.retryable);
});

test('more calls than may wait fail at once, and were not sent', async (t) => {
  const { place, seen } = await rawServer(t, () => undefined);
  const rpc = client(t, { calls_max: 1 });
  const held = rpc.call(place, 'store', 'Add', BODY, { timeout_ms: 200 });
  t.is((await failure(t, rpc.call(place, 'store', 'Add', BODY))).code, 'RPC_CONNECT');
  t.is((await failure(t, held)).code, 'RPC_TIMEOUT');
  t.is(seen.requests.length, 1);
});

test('a reply that is too large is given up, announced or not', async (t) => {
  for (const head of ['Content-Length: 11\r\n', 'Connection: close\r\n']) {
    const { place } = await rawServer(t, (socket) => {
      socket.write(`HTTP/1.0 200 OK\r\nX-PHXRPC-Result: 0\r\n${head}\r\n0123456789x`);
    });
    const error = await failure(t, client(t, { reply_bytes_max: 10 }).call(place, 'store', 'Get', BODY));
    t.is(error.code, 'RPC_IO');
    t.regex(error.message, /more than 10 bytes/);
  }
});

test('closing ends the calls that are under way, and allows no more', async (t) => {
  const { place, seen } = await rawServer(t, () => undefined);
  const rpc = client(t);
  const call = failure(t, rpc.call(place, 'store', 'Add', BODY));
  while (seen.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  await rpc.close();
  t.is((await call).code, 'CLOSED');
  t.is((await failure(t, rpc.call(place, 'store', 'Add', BODY))).code, 'CLOSED');
});

test('a server that stops while connections rest is called anew without an error', async (t) => {
  const first = await serve(t, async () => ({ result: 0, body: [] }));
  const place = { ip: '127.0.0.1', port: first.port };
  const rpc = client(t);
  t.is((await rpc.call(place, 'store', 'Get', BODY)).result, 0);
  await first.close(0);
  t.is((await failure(t, rpc.call(place, 'store', 'Get', BODY))).code, 'RPC_CONNECT');
});
