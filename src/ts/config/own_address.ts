/** Finds a server in the configuration by its own address. */
import type { TopicFiles } from './global_config.js';
import { configError, type Place } from './report.js';
import type { ConsumerConfig, StoreConfig } from './schema.js';

/** The store that a replica belongs to, and its place among the store's addresses. */
export interface OwnStore {
  readonly store: StoreConfig;
  readonly index: number;
}

/** The store that has a replica at `ip`:`port`, null if there is none. */
export function findStore(files: TopicFiles, ip: string, port: number): OwnStore | null {
  for (const store of files.stores) {
    const index = store.addrs.findIndex((addr) => addr.ip === ip && addr.port === port);
    if (index >= 0) return { store, index };
  }
  return null;
}

/**
 * The store of the replica that the file at `conf_path` describes. Throws PhxError CONFIG if the topic's store file does
 * not list its address, or lists it with another Paxos port.
 */
export function ownStore(
  files: TopicFiles,
  own: { readonly ip: string; readonly port: number; readonly paxos_port: number },
  conf_path: string,
): OwnStore {
  const listed_in = files.info.store_config_path;
  const found = findStore(files, own.ip, own.port);
  if (found === null) {
    const endpoints = files.stores.flatMap(({ addrs }) => addrs.map(({ ip, port }) => `${ip}:${port}`));
    const place = { file: conf_path, key: 'Server.BindIP, Server.Port' };
    throw notListed(place, `${own.ip}:${own.port}`, listed_in, endpoints);
  }
  const paxos_port = found.store.addrs[found.index]?.paxos_port;
  if (paxos_port !== own.paxos_port) {
    const place = { file: conf_path, key: 'Store.PaxosPort' };
    throw configError(place, `is ${own.paxos_port}, but ${listed_in} says ${paxos_port}`, 'make the two equal');
  }
  return found;
}

/** The consumer with this identity. Throws PhxError CONFIG if the topic's consumer file does not list it. */
export function ownConsumer(
  files: TopicFiles,
  own: { readonly ip: string; readonly port: number },
  conf_path: string,
): ConsumerConfig {
  const found = files.consumers.find(({ addr }) => addr.ip === own.ip && addr.port === own.port);
  if (found !== undefined) return found;
  const endpoints = files.consumers.map(({ addr }) => `${addr.ip}:${addr.port}`);
  const place = { file: conf_path, key: 'consumer.ip, consumer.port' };
  throw notListed(place, `${own.ip}:${own.port}`, files.info.consumer_config_path, endpoints);
}

function notListed(place: Place, own: string, listed_in: string, endpoints: readonly string[]) {
  const listed = endpoints.length === 0 ? 'nobody' : endpoints.slice(0, 10).join(', ');
  const where = listed_in === '' ? 'the configuration' : listed_in;
  return configError(place, `${own} is not in ${where}, which lists ${listed}`, 'correct one of the two files');
}
