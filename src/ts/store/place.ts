/** Which replica of which store a server is, by its own file and the global configuration. */
import { type GlobalConfig, loadGlobalConfig, type TopicFiles } from '../config/global_config.js';
import { findStore, ownStore } from '../config/own_address.js';
import { configError } from '../config/report.js';
import type { StoreConf } from '../config/server_conf.js';
import type { Identity } from '../paxos/identity.js';
import type { Replica } from '../paxos/replicated_log.js';

/** The place of a replica. */
export interface ReplicaPlace {
  readonly files: TopicFiles;
  readonly store_id: number;
  readonly identity: Identity;
  readonly replicas: readonly Replica[];
}

/**
 * Loads the global configuration and finds the replica in it. Throws PhxError CONFIG if a file is wrong or does not list
 * the address; `onWarning` gets what is only odd, line by line.
 */
export function findPlace(conf: StoreConf, onWarning: (line: string) => void): ReplicaPlace {
  const { server, paxos_port, file, groups } = conf;
  const files = topicOf(conf, loadGlobalConfig(conf.global_config_path, { onWarning }));
  const { store, index } = ownStore(files, { ip: server.bind_ip, port: server.port, paxos_port }, file);
  return {
    files,
    store_id: store.store_id,
    identity: { cluster: `${files.info.topic_name}/store/${store.store_id}`, replica: index + 1, groups },
    replicas: store.addrs.map((addr, i) => ({ id: i + 1, host: addr.ip, paxos_port: addr.paxos_port })),
  };
}

/** The topic that the file names; if it names none, the one whose stores have the server's address. */
function topicOf({ topic, server, file }: StoreConf, global: GlobalConfig): TopicFiles {
  const at = { file, key: 'Store.Topic' };
  if (topic !== '') return global.requireTopic(topic, at);
  const found = global.topics.find((files) => findStore(files, server.bind_ip, server.port) !== null);
  if (found !== undefined) return found;
  const what = `is empty, and no topic of ${global.file} has a store at ${server.bind_ip}:${server.port}`;
  throw configError(at, what, 'name the topic, or list the address in its store file');
}
