/** The program consumer_main: serves its queues with the handlers of the samples. */
import { type ConsumerConf, loadConsumerConf } from '../config/server_conf.js';
import { AdminServer } from '../ops/admin.js';
import { type RunningServer, runServer, type ServerContext } from '../ops/lifecycle.js';
import { Consumer } from './consumer.js';
import { consumerMetrics } from './metrics.js';

/** Handlers of the samples by handle_id: 1 takes everything, 2 prints it. */
const HANDLER_MODULES = {
  1: new URL('./handlers/simple.js', import.meta.url),
  2: new URL('./handlers/echo.js', import.meta.url),
};

/** Starts a consumer server. Throws PhxError CONFIG. */
export async function startConsumer(conf: ConsumerConf, { logger, registry }: ServerContext): Promise<RunningServer> {
  const consumer = new Consumer({
    global_config_path: conf.global_config_path,
    topic: conf.topic,
    ip: conf.ip,
    port: conf.port,
    nproc: conf.nproc,
    handler_modules: HANDLER_MODULES,
    log: (level, line) => logger[level](line),
  });
  consumerMetrics(consumer, registry);
  const admin =
    conf.admin === null
      ? null
      : await AdminServer.listen({
          host: conf.admin.ip,
          port: conf.admin.port,
          registry,
          health: () => ({ ok: true, reason: '' }),
          ready: () => ({ ok: consumer.obstacle === null, reason: consumer.obstacle ?? '' }),
        });
  consumer.start();
  const page = admin === null || conf.admin === null ? '' : `, admin port ${conf.admin.ip}:${admin.port}`;
  return {
    description: `serves ${consumer.queues.length} queues in ${conf.nproc} workers${page}`,
    close: async () => {
      await consumer.stop();
      await admin?.close();
    },
  };
}

/** Runs consumer_main with its command-line arguments. */
export function main(argv: readonly string[]): Promise<void> {
  return runServer(
    {
      name: 'consumer_main',
      about: 'takes items out of the queues and hands them to handlers',
      example_conf: 'etc/consumer_server.0.conf',
      loadConf: (path, onWarning) => loadConsumerConf(path, { onWarning }),
      start: startConsumer,
    },
    argv,
  );
}
