import test, { type ExecutionContext } from 'ava';
import { Counter } from 'prom-client';
import { AdminServer } from '../../src/ts/ops/admin.js';
import { processMetrics } from '../../src/ts/ops/metrics.js';

interface Page {
  readonly status: number;
  readonly text: string;
}

async function start(
  t: ExecutionContext,
  state: { healthy: boolean; ready: boolean },
): Promise<(path: string) => Promise<Page>> {
  const registry = processMetrics();
  new Counter({ name: 'items_total', help: 'Items.', registers: [registry] }).inc(3);
  const server = await AdminServer.listen({
    host: '127.0.0.1',
    port: 0,
    registry,
    health: () => ({ ok: state.healthy, reason: 'the log failed' }),
    ready: () => ({ ok: state.ready, reason: 'group 0 without a master' }),
  });
  t.teardown(() => server.close());
  return async (path) => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return { status: response.status, text: await response.text() };
  };
}

test('health and readiness say why not', async (t) => {
  const state = { healthy: true, ready: false };
  const get = await start(t, state);
  t.deepEqual(await get('/healthz'), { status: 200, text: 'ok\n' });
  t.deepEqual(await get('/readyz'), { status: 503, text: 'group 0 without a master\n' });
  state.healthy = false;
  state.ready = true;
  t.deepEqual(await get('/healthz'), { status: 503, text: 'the log failed\n' });
  t.deepEqual(await get('/readyz?x=1'), { status: 200, text: 'ok\n' });
});

test('metrics hold those of the server and of the process', async (t) => {
  const get = await start(t, { healthy: true, ready: true });
  const { status, text } = await get('/metrics');
  t.is(status, 200);
  t.regex(text, /^items_total 3$/m);
  t.regex(text, /^process_resident_memory_bytes \d+$/m);
});

test('other pages and methods are refused', async (t) => {
  const get = await start(t, { healthy: true, ready: true });
  t.is((await get('/')).status, 404);
  t.is((await get('/healthz/x')).status, 404);
});

test('a port in use is a clear error', async (t) => {
  const options = {
    host: '127.0.0.1',
    registry: processMetrics(),
    health: () => ({ ok: true, reason: '' }),
    ready: () => ({ ok: true, reason: '' }),
  };
  const first = await AdminServer.listen({ ...options, port: 0 });
  t.teardown(() => first.close());
  const error = await t.throwsAsync(AdminServer.listen({ ...options, port: first.port }), { code: 'CONFIG' });
  t.regex(error.message, /the admin port cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/);
});
