/**
 * The files that servers are started with (`-c`): INI for store, lock and scheduler, JSON for the consumer. All loaders
 * throw PhxError CONFIG with one line that says file, key, what is wrong and what to do.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  choice,
  type Field,
  flag,
  int32,
  ipv4,
  message,
  name,
  optional,
  port,
  required,
  text,
  type ValueOf,
} from './fields.js';
import { type IniSections, parseIni } from './ini.js';
import { type LoadOptions, readJsonFile, readTextFile, reporterOf } from './json_file.js';

/** Where and how a server takes requests. */
export interface ServerSettings {
  /** Identity: the address by which the other configuration files know this server. */
  readonly bind_ip: string;
  readonly port: number;
  /** The address to listen on, for requests as well as for the other replicas: `bind_ip` unless said otherwise. */
  readonly listen_ip: string;
  readonly package_name: string;
  readonly connections_max: number;
  /** Requests that may be in work or wait at a time. */
  readonly requests_max: number;
  /** How long a connection may stay idle or a request may take to arrive. */
  readonly socket_timeout_ms: number;
}

export interface LogSettings {
  readonly dir: string;
  /** 0 info, 1 warning, 2 error, 3 fatal. */
  readonly level: number;
  /** JSON lines in place of readable ones. */
  readonly json: boolean;
  readonly file_bytes_max: number;
  readonly files_max: number;
}

/** Where the admin port listens; port 0: any free one. */
export interface AdminSettings {
  readonly ip: string;
  readonly port: number;
}

export type EngineChoice = 'auto' | 'native' | 'portable';

/** A store's file. */
export interface StoreConf {
  readonly file: string;
  readonly server: ServerSettings;
  readonly log: LogSettings;
  /** Null: no admin port. */
  readonly admin: AdminSettings | null;
  readonly topic: string;
  readonly data_dir: string;
  readonly global_config_path: string;
  readonly paxos_port: number;
  /** Paxos groups. Belongs to the data folder and to all replicas: it can never change. */
  readonly groups: number;
  readonly engine: EngineChoice;
  /** A damaged log is set aside, and the replica joins anew; else it refuses to start. */
  readonly set_aside_damage: boolean;
  /** Gives durability up: nothing is synced. For experiments only. */
  readonly unsafe_no_sync: boolean;
}

/** A lock server's file. */
export interface LockConf {
  readonly file: string;
  readonly server: ServerSettings;
  readonly log: LogSettings;
  readonly admin: AdminSettings | null;
  readonly topic: string;
  readonly data_dir: string;
  readonly global_config_path: string;
  readonly paxos_port: number;
  readonly groups: number;
}

/** A scheduler's file. */
export interface SchedulerConf {
  readonly file: string;
  readonly server: ServerSettings;
  readonly log: LogSettings;
  readonly admin: AdminSettings | null;
  readonly topic: string;
  readonly global_config_path: string;
}

/** A consumer server's file. */
export interface ConsumerConf {
  readonly file: string;
  /** Identity only: nothing listens there. */
  readonly ip: string;
  readonly port: number;
  readonly topic: string;
  /** Workers. */
  readonly nproc: number;
  readonly lock_path_base: string;
  readonly shm_key_base: number;
  readonly global_config_path: string;
  readonly log: LogSettings;
  readonly admin: AdminSettings | null;
}

const loopback = '127.0.0.1';
const log_bytes_default = 64 * 1024 * 1024;
const log_files_default = 10;
const log_level = int32(0, { max: 3 });
const log_bytes_max = int32(log_bytes_default, { min: 4096 });
const log_files_max = int32(log_files_default, { min: 1, max: 10_000 });

// The keys with a default of their own in the original: LogDir ~/log, LogLevel 3 (errors only), SocketTimeoutMS 30000.
// A server that says nothing about logs is to be seen working, and a connection that is closed while a C++ producer
// uses it makes that one send an Add twice.
const common_sections = {
  Server: message({
    BindIP: required(ipv4(), 'add the address under which the other files list this server'),
    Port: required(port(), 'add the port under which the other files list this server'),
    ListenIP: text(),
    PackageName: text(),
    MaxThreads: int32(20),
    IOThreadCount: int32(3),
    WorkerUThreadCount: int32(0),
    WorkerUThreadStackSize: int32(65_536),
    MaxConnections: int32(800_000, { min: 1 }),
    MaxQueueLength: int32(20_480, { min: 1 }),
    FastRejectThresholdMS: int32(20),
    FastRejectAdjustRate: int32(5),
  }),
  ServerTimeout: message({ SocketTimeoutMS: int32(120_000, { min: 1 }) }),
  Log: message({
    LogDir: text('log'),
    LogLevel: log_level,
    Json: flag(0),
    MaxFileBytes: log_bytes_max,
    MaxFiles: log_files_max,
  }),
  Admin: optional(message({ IP: ipv4(loopback), Port: required(port({ min: 0 }), 'add it, 0 takes any free port') })),
};

const common_keys = {
  Topic: name('name a topic of the global configuration file'),
  PhxQueueGlobalConfigPath: name('add the path of the global configuration file'),
};
const replica_keys = {
  ...common_keys,
  DataDirPath: name('add the folder for this server’s data'),
  PaxosPort: required(port(), 'add the port for the other replicas'),
};
const groups = int32(100, { min: 1, max: 10_000 });

const store_conf = message({
  ...common_sections,
  Store: message({
    ...replica_keys,
    NPaxosIOThread: int32(3),
    NGroup: groups,
    Engine: choice(['auto', 'native', 'portable'], 'auto'),
    SetAsideDamage: flag(1),
    UnsafeNoSync: flag(0),
  }),
});
const lock_conf = message({
  ...common_sections,
  Lock: message({ ...replica_keys, NrPaxosIOThread: int32(3), NrGroup: groups }),
});
const scheduler_conf = message({ ...common_sections, Scheduler: message(common_keys) });

const consumer_conf = message({
  consumer: message({
    ip: required(ipv4(), 'add the address under which the consumers’ file lists this one'),
    port: required(port(), 'add the port under which the consumers’ file lists this one'),
    topic: name('name a topic of the global configuration file'),
    // An absent one is 0 in the original: a consumer that consumes nothing.
    nproc: int32(1, { max: 1000 }),
    proc_pid_path: text(),
    lock_path_base: text(),
    phxqueue_global_config_path: name('add the path of the global configuration file'),
    shm_key_base: int32(14_335),
  }),
  log: message({
    path: text('log'),
    level: log_level,
    json: flag(0),
    max_file_bytes: log_bytes_max,
    max_files: log_files_max,
  }),
  admin: optional(message({ ip: ipv4(loopback), port: required(port({ min: 0 }), 'add it, 0 takes any free port') })),
});

/** Reads a store's file. */
export function loadStoreConf(path: string, options: LoadOptions = {}): StoreConf {
  const conf = readIni(path, store_conf, options);
  return {
    ...commonOf(path, conf),
    ...replicaOf(conf.Store),
    groups: conf.Store.NGroup,
    engine: conf.Store.Engine,
    set_aside_damage: conf.Store.SetAsideDamage === 1,
    unsafe_no_sync: conf.Store.UnsafeNoSync === 1,
  };
}

/** Reads a lock server's file. */
export function loadLockConf(path: string, options: LoadOptions = {}): LockConf {
  const conf = readIni(path, lock_conf, options);
  return { ...commonOf(path, conf), ...replicaOf(conf.Lock), groups: conf.Lock.NrGroup };
}

/** Reads a scheduler's file. */
export function loadSchedulerConf(path: string, options: LoadOptions = {}): SchedulerConf {
  const conf = readIni(path, scheduler_conf, options);
  const { Topic, PhxQueueGlobalConfigPath } = conf.Scheduler;
  return { ...commonOf(path, conf), topic: Topic, global_config_path: PhxQueueGlobalConfigPath };
}

/** Reads a consumer server's file. */
export function loadConsumerConf(path: string, options: LoadOptions = {}): ConsumerConf {
  const report = reporterOf(options);
  const raw = readJsonFile(path, options.base, report);
  const { consumer, log, admin } = consumer_conf.read(raw, { file: path, key: '', report });
  return {
    file: path,
    ip: consumer.ip,
    port: consumer.port,
    topic: consumer.topic,
    nproc: consumer.nproc,
    lock_path_base: consumer.lock_path_base,
    shm_key_base: consumer.shm_key_base,
    global_config_path: consumer.phxqueue_global_config_path,
    log: {
      dir: expandHome(log.path),
      level: log.level,
      json: log.json === 1,
      file_bytes_max: log.max_file_bytes,
      files_max: log.max_files,
    },
    admin,
  };
}

function readIni<T>(path: string, schema: Field<T>, options: LoadOptions): T {
  const report = reporterOf(options);
  const content = readTextFile(path, options.base, report);
  const sections = parseIni(content ?? '', path, report);
  return schema.read(plainObject(sections), { file: path, key: '', report });
}

function plainObject(sections: IniSections): unknown {
  return Object.fromEntries([...sections].map(([name, keys]) => [name, Object.fromEntries(keys)]));
}

type CommonSections = { readonly [Key in keyof typeof common_sections]: ValueOf<(typeof common_sections)[Key]> };
type ReplicaKeys = { readonly [Key in keyof typeof replica_keys]: ValueOf<(typeof replica_keys)[Key]> };

function commonOf(file: string, { Server, ServerTimeout, Log, Admin }: CommonSections) {
  return {
    file,
    server: {
      bind_ip: Server.BindIP,
      port: Server.Port,
      listen_ip: Server.ListenIP === '' ? Server.BindIP : Server.ListenIP,
      package_name: Server.PackageName,
      connections_max: Server.MaxConnections,
      requests_max: Server.MaxQueueLength,
      socket_timeout_ms: ServerTimeout.SocketTimeoutMS,
    },
    log: {
      dir: expandHome(Log.LogDir),
      level: Log.LogLevel,
      json: Log.Json === 1,
      file_bytes_max: Log.MaxFileBytes,
      files_max: Log.MaxFiles,
    },
    admin: Admin === null ? null : { ip: Admin.IP, port: Admin.Port },
  };
}

function replicaOf({ Topic, PhxQueueGlobalConfigPath, DataDirPath, PaxosPort }: ReplicaKeys) {
  return {
    topic: Topic,
    global_config_path: PhxQueueGlobalConfigPath,
    data_dir: expandHome(DataDirPath),
    paxos_port: PaxosPort,
  };
}

function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}
