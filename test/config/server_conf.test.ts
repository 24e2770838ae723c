import { homedir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  loadConsumerConf,
  loadLockConf,
  loadSchedulerConf,
  loadStoreConf,
  type StoreConf,
} from '../../src/ts/config/server_conf.js';
import { temporaryFolder, writeFiles } from './files.js';

const minimal = `[Server]
BindIP = 10.0.0.1
Port = 5100
[Store]
Topic = test
DataDirPath = data
PhxQueueGlobalConfigPath = etc/globalconfig.conf
PaxosPort = 5101
`;

function load(t: ExecutionContext, content: string): { conf: StoreConf; warnings: string[] } {
  const base = temporaryFolder(t);
  writeFiles(base, { 'store.conf': content });
  const warnings: string[] = [];
  const conf = loadStoreConf('store.conf', { base, onWarning: (line) => warnings.push(line) });
  return { conf, warnings };
}

test('every sample loads without a warning', (t) => {
  const onWarning = (line: string): void => t.fail(line);
  for (const n of [0, 1, 2]) {
    const store = loadStoreConf(`etc/store_server.${n}.conf`, { onWarning });
    t.like(store, { topic: 'test', groups: 1, data_dir: `./data/store.${n}`, engine: 'auto', unsafe_no_sync: false });
    t.like(store, { paxos_port: 5101 + 100 * n, admin: { ip: '127.0.0.1', port: 5190 + 100 * n } });
    t.like(store.server, {
      bind_ip: '127.0.0.1',
      listen_ip: '127.0.0.1',
      port: 5100 + 100 * n,
      socket_timeout_ms: 120000,
    });
    t.like(store.log, { dir: `./log/store.${n}`, level: 0, json: false });
    t.is(loadStoreConf(`etc/rich/store_server.${n}.conf`, { onWarning }).topic, 'orders');
    const consumer = loadConsumerConf(`etc/consumer_server.${n}.conf`, { onWarning });
    t.like(consumer, { ip: '127.0.0.1', port: 8001 + n, topic: 'test', nproc: 2, shm_key_base: 53460 + n });
    t.like(consumer, { log: { dir: `./log/consumer.${n}`, level: 0 }, admin: { port: 8091 + n } });
    t.is(loadConsumerConf(`etc/rich/consumer_server.${n}.conf`, { onWarning }).topic, 'orders');
    t.like(loadLockConf(`etc/lock_server.${n}.conf`, { onWarning }), { groups: 1, paxos_port: 7101 + 100 * n });
    t.is(loadSchedulerConf(`etc/scheduler_server.${n}.conf`, { onWarning }).server.port, 6100 + 100 * n);
  }
});

test('what is left out has its default', (t) => {
  const { conf, warnings } = load(t, minimal);
  t.deepEqual(warnings, []);
  t.like(conf, { groups: 100, engine: 'auto', unsafe_no_sync: false, admin: null, file: 'store.conf' });
  t.deepEqual(conf.log, { dir: 'log', level: 0, json: false, file_bytes_max: 64 * 1024 * 1024, files_max: 10 });
  t.is(conf.server.listen_ip, '10.0.0.1');
});

test('a value is the first word, the first occurrence counts, comments and foreign line ends are fine', (t) => {
  const content = `\uFEFF# a comment\r\n; another\r\n  # indented\r\n${minimal.replaceAll('\n', '\r\n')}NGroup=7 # seven\r\nNGroup = 8\r\n`;
  const { conf, warnings } = load(t, content);
  t.is(conf.groups, 7);
  t.is(conf.topic, 'test');
  t.deepEqual(warnings, ['store.conf: line 13: NGroup is given again in [Store]; remove one, the first counts']);
});

test('a section may come in pieces', (t) => {
  t.is(load(t, `${minimal}[Server]\nListenIP = 0.0.0.0\n`).conf.server.listen_ip, '0.0.0.0');
});

test('lines that are not read are reported', (t) => {
  const { conf, warnings } = load(t, `Early = 1\n${minimal}  NGroup = 3\nnonsense\n[Stor]\n[Log]\nLogLevl = 1\n`);
  t.is(conf.groups, 100);
  t.deepEqual(warnings, [
    'store.conf: line 1: Early stands before any [Section]; move it into its section',
    'store.conf: line 10: "  NGroup = 3" is not read; write "Key = value" from the first column on, or # for a comment',
    'store.conf: line 11: "nonsense" is not read; write "Key = value" from the first column on, or # for a comment',
    'store.conf: Stor: unknown key; did you mean Store?',
    'store.conf: Log.LogLevl: unknown key; did you mean LogLevel?',
  ]);
});

test('the additions are read', (t) => {
  const log = '[Log]\nLogDir = ~/l\nJson = 1\nMaxFileBytes = 5000\nMaxFiles = 2\n';
  const more = `NGroup = 1\nEngine = portable\nUnsafeNoSync = 1\n[Admin]\nPort = 0\n${log}`;
  const { conf } = load(t, minimal + more);
  t.like(conf, { engine: 'portable', unsafe_no_sync: true, admin: { ip: '127.0.0.1', port: 0 } });
  t.deepEqual(conf.log, { dir: join(homedir(), 'l'), level: 0, json: true, file_bytes_max: 5000, files_max: 2 });
});

for (const [what, content, message] of [
  [
    'a missing port',
    minimal.replace('Port = 5100', ''),
    'store.conf: Server.Port: missing; add the port under which the other files list this server',
  ],
  [
    'an empty value',
    minimal.replace('PaxosPort = 5101', 'PaxosPort ='),
    'store.conf: Store.PaxosPort: missing; add the port for the other replicas',
  ],
  [
    'a number that is none',
    minimal.replace('Port = 5100', 'Port = 51x'),
    'store.conf: Server.Port: "51x" is not a whole number; give a number from 1 to 65535',
  ],
  [
    'an unknown engine',
    `${minimal}Engine = fast\n`,
    'store.conf: Store.Engine: "fast" is unknown; give one of auto, native, portable',
  ],
  [
    'no groups',
    `${minimal}NGroup = 0\n`,
    'store.conf: Store.NGroup: "0" is out of range; give a number from 1 to 10000',
  ],
  [
    'a host name as identity',
    minimal.replace('10.0.0.1', 'host'),
    'store.conf: Server.BindIP: "host" is not an IPv4 address; give four numbers from 0 to 255, such as 10.0.0.1',
  ],
  [
    'an admin section without a port',
    `${minimal}[Admin]\n`,
    'store.conf: Admin.Port: missing; add it, 0 takes any free port',
  ],
] as const) {
  test(`refused with one line: ${what}`, (t) => {
    t.throws(() => load(t, content), { code: 'CONFIG', message });
  });
}

test('a consumer without its files or its identity is refused', (t) => {
  const base = temporaryFolder(t);
  writeFiles(base, { 'c.conf': { consumer: { ip: '127.0.0.1', port: 8001, topic: 'test' } } });
  t.throws(() => loadConsumerConf('c.conf', { base }), {
    code: 'CONFIG',
    message: 'c.conf: consumer.phxqueue_global_config_path: missing; add the path of the global configuration file',
  });
  t.throws(() => loadConsumerConf('d.conf', { base }), { code: 'CONFIG', message: /^d\.conf: no such file/ });
});

test('a consumer takes one worker where it is not told how many', (t) => {
  const base = temporaryFolder(t);
  const consumer = { ip: '127.0.0.1', port: 8001, topic: 'test', phxqueueGlobalConfigPath: 'g.conf' };
  writeFiles(base, { 'c.conf': { consumer } });
  t.like(loadConsumerConf('c.conf', { base }), { nproc: 1, admin: null, global_config_path: 'g.conf' });
});
