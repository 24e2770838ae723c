/** store_main: a replica of a store as a server process. */
import { loadStoreConf } from '../config/server_conf.js';
import { runServer } from '../ops/lifecycle.js';
import { startStore } from './store.js';

export { type Store, type StoreLogger, type StoreOptions, startStore } from './store.js';

/** Runs the program with its command-line arguments; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  await runServer(
    {
      name: 'store_main',
      about: 'one replica of a store, which keeps the queues',
      example_conf: 'etc/store_server.0.conf',
      loadConf: (path, onWarning) => loadStoreConf(path, { onWarning }),
      start: (conf, { logger, registry, fail }) => startStore(conf, { logger, registry, onFatal: fail }),
    },
    argv,
  );
}
