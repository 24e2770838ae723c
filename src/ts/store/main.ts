/** store_main: a replica of a store as a server process. */
import { loadStoreConf } from '../config/server_conf.js';
import { runServer } from '../ops/lifecycle.js';
import { startStore } from './store.js';

export { type Store, type StoreLogger, type StoreOptions, startStore } from './store.js';

const FORM_WITH_MAJORITY = 'form-with-majority';

/** Runs the program with its command-line arguments; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  await runServer(
    {
      name: 'store_main',
      about: 'one replica of a store, which keeps the queues',
      example_conf: 'etc/store_server.0.conf',
      loadConf: (path, onWarning) => loadStoreConf(path, { onWarning }),
      switches: {
        [FORM_WITH_MAJORITY]: [
          'a NEW store whose replicas are not all there forms with a majority of them; give it to all of',
          'that majority. Never where a store has ever served anything: if one of those that are there',
          'has lost its disk, the items of the old store are gone (docs/internals/forming.md)',
        ],
      },
      start: (conf, { logger, registry, switches, fail }) =>
        startStore(conf, {
          logger,
          registry,
          form_with_majority: switches.has(FORM_WITH_MAJORITY),
          onFatal: fail,
        }),
    },
    argv,
  );
}
