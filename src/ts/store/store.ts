/** A replica of a store: everything that runs in its process, put together, started and stopped in order. */
import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { configError } from '../config/report.js';
import type { StoreConf } from '../config/server_conf.js';
import { PhxError } from '../errors.js';
import { AdminServer, type Condition } from '../ops/admin.js';
import { claimFolder, logIdentity } from '../paxos/identity.js';
import { PaxosNode } from '../paxos/node.js';
import { RpcServer } from '../rpc/server.js';
import type { LogEngine } from '../wal/engine.js';
import { openLog } from '../wal/open.js';
import { checkAddPortably, nativeAddChecker } from './add_check.js';
import { ConfiguredView } from './configured_view.js';
import { CursorSync, process_timers } from './cursor_sync.js';
import { isDamage, LogHome } from './log_home.js';
import { groupList, MasterWatch } from './master_watch.js';
import { StoreMetrics } from './metrics.js';
import { addBodyBytesMax, checkpointOptions, coreOptions } from './paxos_options.js';
import { findPlace, type ReplicaPlace } from './place.js';
import { StoreService } from './service.js';
import { StoreStateMachine } from './state_machine.js';
import { trimQueues } from './trim.js';

/** Longest time for which an acknowledgement is not replicated. */
const CURSOR_SYNC_MAX_MS = 500;
const MASTER_WATCH_MS = 500;
const SPACE_WATCH_MS = 500;
/** How long requests in work may take once the store stops; a proposal has its own, usually shorter limit. */
const CLOSE_GRACE_MS = 3_000;
/** How long clients are sent to the new masters before the connections that they do not use are closed. */
const REDIRECTING_MS = 250;

/** Where a store writes its lines. */
export interface StoreLogger {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** What a store needs from the process around it. */
export interface StoreOptions {
  readonly logger: StoreLogger;
  /** Takes the store's metrics; a store without one has its own. */
  readonly registry?: Registry;
  /** Opens the log; tests put a failing one in its place. */
  readonly openLog?: typeof openLog;
  /** A new store forms with a majority of its replicas. */
  readonly form_with_majority?: boolean;
  /** The store cannot keep its promises any more and stopped answering: the process has to end. Called once. */
  readonly onFatal: (error: unknown) => void;
}

/**
 * Starts a replica; resolves once it listens and has read its log, without waiting for the other replicas. Throws
 * PhxError CONFIG or LOG_*; nothing is left running then.
 */
export function startStore(conf: StoreConf, options: StoreOptions): Promise<Store> {
  return Store.start(conf, options);
}

/** A running replica; made by `startStore`. */
export class Store {
  readonly #conf: StoreConf;
  readonly #options: StoreOptions;
  readonly #place: ReplicaPlace;
  readonly #logs: LogHome;
  #machine: StoreStateMachine;
  readonly #service: StoreService;
  readonly #metrics: StoreMetrics;
  /** What was started, in this order; `close` goes backwards. */
  readonly #stops: ((graceful: boolean) => Promise<void>)[] = [];
  #rpc: RpcServer | null = null;
  #admin: AdminServer | null = null;
  #watch: MasterWatch | null = null;
  #node: PaxosNode | null = null;
  #cursor_sync: CursorSync | null = null;
  #unclaimed_queues = 0;
  #low_on_space = false;
  #failed: string | null = null;
  #closing: Promise<void> | null = null;

  private constructor(conf: StoreConf, options: StoreOptions) {
    this.#conf = conf;
    this.#options = options;
    this.#place = findPlace(conf, (line) => options.logger.warn(line));
    this.#machine = new StoreStateMachine(conf.groups);
    this.#logs = new LogHome({
      data_dir: conf.data_dir,
      open: (folder) => this.#openLog(folder),
      // Alone it has nobody from whom to learn what was lost.
      may_set_aside: conf.set_aside_damage && this.#place.replicas.length > 1,
      logger: options.logger,
    });
    this.#metrics = new StoreMetrics(options.registry ?? new Registry());
    this.#service = new StoreService({
      view: new ConfiguredView(this.#place.files, { ip: conf.server.bind_ip, port: conf.server.port }),
      metrics: this.#metrics,
      logger: options.logger,
    });
  }

  /** See `startStore`. */
  static async start(conf: StoreConf, options: StoreOptions): Promise<Store> {
    const store = new Store(conf, options);
    try {
      await store.#start();
    } catch (error) {
      await store.#stopAll(false);
      throw error;
    }
    return store;
  }

  /** What it does, for people. */
  get description(): string {
    const { bind_ip, port } = this.#conf.server;
    const { files, identity, replicas, store_id } = this.#place;
    const replica = `replica ${identity.replica} of ${replicas.length}`;
    return `serves store ${store_id} of topic ${files.info.topic_name} on ${bind_ip}:${port} (${replica})`;
  }

  /** Port of the admin pages, null if there are none. */
  get admin_port(): number | null {
    return this.#admin?.port ?? null;
  }

  /** Acknowledgements that are not replicated yet. */
  get cursors_waiting(): number {
    return this.#cursor_sync?.waiting ?? 0;
  }

  /** Whether the storage works. */
  health(): Condition {
    return { ok: this.#failed === null, reason: this.#failed ?? '' };
  }

  /** Whether the store can serve, or says who does: it may vote, and every Paxos group has a master. */
  ready(): Condition {
    if (this.#failed !== null) return this.health();
    if (this.#watch === null || this.#node === null) return { ok: false, reason: 'the log is being read' };
    const { obstacle } = this.#node;
    if (obstacle !== '') return { ok: false, reason: `${obstacle}${this.#setAsideNote()}` };
    const masterless = this.#watch.masterless();
    if (masterless.length === 0) return { ok: true, reason: '' };
    return { ok: false, reason: `${groupList(masterless)} without a master` };
  }

  /**
   * Stops: replicates acknowledgements, hands the leadership of its groups over, finishes the requests in work, closes the
   * log.
   */
  close(): Promise<void> {
    return this.#stop(true);
  }

  /** Stops at once: what is not durable yet is given up, as in a crash. */
  halt(): Promise<void> {
    return this.#stop(false);
  }

  async #start(): Promise<void> {
    const core = coreOptions(this.#place.files.topic.topic);
    await this.#makeDataFolder();
    await claimFolder(this.#conf.data_dir, this.#place.identity);
    this.#stops.push(() => this.#logs.close());
    const opened = await this.#logs.open();
    // From here on clients get an answer: 10105 until a master is known.
    const rpc = await this.#listen();
    await this.#listenAdmin();
    const { log, node } = await this.#joinAnyhow(opened, core);
    if (this.#failed !== null) throw new PhxError('LOG_POISONED', this.#failed);
    this.#serve(node, log, rpc);
  }

  async #makeDataFolder(): Promise<void> {
    const { data_dir, file } = this.#conf;
    try {
      const made = await mkdir(data_dir, { recursive: true });
      if (made !== undefined) this.#options.logger.info(`made the data folder ${resolve(data_dir)}`);
    } catch (error) {
      const what = `${data_dir} cannot be made (${error instanceof Error ? error.message : String(error)})`;
      throw configError({ file, key: 'Store.DataDirPath' }, what, 'name a folder that can be written to');
    }
  }

  async #openLog(folder: string): Promise<LogEngine> {
    const { logger } = this.#options;
    const { engine, unsafe_no_sync } = this.#conf;
    if (unsafe_no_sync) {
      logger.warn('UnsafeNoSync is set: nothing is synced, a power cut loses acknowledged items');
    }
    const open = this.#options.openLog ?? openLog;
    const log = await open({
      engine,
      folder,
      identity: logIdentity(this.#place.identity),
      sync: !unsafe_no_sync,
    });
    const { segments, records, bytes, torn_bytes, corrupt, damaged_marks, elapsed_ms } = log.recovery;
    logger.info(
      `log opened by the ${log.engine} engine in ${Math.round(elapsed_ms)} ms: ` +
        `${records} records, ${bytes} bytes in ${segments} segments`,
    );
    if (torn_bytes > 0) logger.info(`cut ${torn_bytes} bytes of an unfinished write from the end of the log`);
    if (damaged_marks > 0) {
      logger.warn(
        `${damaged_marks} of the two copies of the log's high-water marks were unreadable after a clean stop: written anew; ` +
          'look after the disk if the machine did not crash during the last start',
      );
    }
    for (const { segment, offset, group, instance } of corrupt) {
      const what = group === null ? 'unknown' : `group ${group}, instance ${instance}`;
      logger.error(`damaged record (${what}) at byte ${offset} of segment ${segment}`);
    }
    return log;
  }

  async #listen(): Promise<RpcServer> {
    const { server } = this.#conf;
    const { items_byte_size_limit } = this.#place.files.topic.topic;
    const rpc = await RpcServer.listen({
      host: server.listen_ip,
      port: server.port,
      service: 'store',
      methods: this.#service.methods,
      limits: {
        body_bytes_max: addBodyBytesMax(items_byte_size_limit),
        requests_max: server.requests_max,
        connections_max: server.connections_max,
        idle_timeout_ms: server.socket_timeout_ms,
        request_timeout_ms: server.socket_timeout_ms,
      },
      logger: this.#options.logger,
      onDefect: (error) => this.#fail(error),
    });
    this.#rpc = rpc;
    this.#stops.push((graceful) => rpc.close(graceful ? CLOSE_GRACE_MS : 0));
    return rpc;
  }

  async #listenAdmin(): Promise<void> {
    const { admin } = this.#conf;
    if (admin === null) return;
    const server = await AdminServer.listen({
      host: admin.ip,
      port: admin.port,
      registry: this.#metrics.registry,
      health: () => this.health(),
      ready: () => this.ready(),
    });
    this.#admin = server;
    this.#stops.push(() => server.close());
    this.#options.logger.info(`admin pages on http://${admin.ip}:${server.port}/`);
  }

  /** Joins; with another log if it turns out that this one is damaged. */
  async #joinAnyhow(
    opened: LogEngine,
    core: ReturnType<typeof coreOptions>,
  ): Promise<{ log: LogEngine; node: PaxosNode }> {
    try {
      return { log: opened, node: await this.#join(opened, core) };
    } catch (error) {
      if (!isDamage(error)) throw error;
      const log = await this.#logs.setAside(error);
      // What was read of the damaged one is forgotten.
      this.#machine = new StoreStateMachine(this.#conf.groups);
      return { log, node: await this.#join(log, core) };
    }
  }

  async #join(log: LogEngine, core: ReturnType<typeof coreOptions>): Promise<PaxosNode> {
    const { logger } = this.#options;
    const { identity, replicas, files } = this.#place;
    const began_ms = performance.now();
    const node = await PaxosNode.start({
      identity,
      replicas,
      listen_host: this.#conf.server.listen_ip,
      log,
      stateMachine: this.#machine,
      core,
      checkpoints: checkpointOptions(files.topic.topic, identity.groups),
      propose_timeout_ms: files.topic.topic.store_paxos_propose_timeout_ms,
      logger,
      form_with_majority: this.#options.form_with_majority ?? false,
      onNoMaster: (groups, connected_peers, obstacle) => this.#sayNoMaster(groups, connected_peers, obstacle),
      onFailure: (error) => this.#fail(error),
    });
    this.#stops.push(() => node.close());
    let items = 0;
    for (const { index } of this.#machine.queues()) items += index.items;
    logger.info(
      `read ${items} items of ${identity.groups} Paxos groups in ${Math.round(performance.now() - began_ms)} ms`,
    );
    return node;
  }

  #serve(node: PaxosNode, log: LogEngine, rpc: RpcServer): void {
    const { logger } = this.#options;
    const { topic } = this.#place.files.topic;
    const cursor_sync = new CursorSync({
      log: node,
      readCursor: (queue_id, consumer_group) => this.#machine.ensureQueue(queue_id).cursors.of(consumer_group),
      interval_ms: Math.min(CURSOR_SYNC_MAX_MS, Math.max(1, topic.store_sync_interval_s) * 1_000),
      timers: process_timers,
      onFailure: (group, error) => logger.warn(`group ${group}: acknowledgements not replicated yet: ${error.message}`),
      onDefect: (error) => this.#fail(error),
    });
    this.#cursor_sync = cursor_sync;
    const watch = new MasterWatch(node, (line) => logger.info(line));
    this.#watch = watch;
    this.#node = node;
    const timers = [
      setInterval(() => watch.check(), MASTER_WATCH_MS),
      setInterval(() => this.#watchSpace(log), SPACE_WATCH_MS),
      setInterval(() => this.#trim(node), Math.max(1, topic.store_make_cp_interval_s) * 1_000),
    ];
    this.#stops.push(async (graceful) => {
      for (const timer of timers) clearInterval(timer);
      if (graceful) await cursor_sync.close();
      else cursor_sync.abandon();
    });
    this.#metrics.observe({
      ...{ node, log, rpc, cursor_sync, machine: this.#machine },
      view: () => this.#service.view,
      set_aside: () => this.#logs.set_aside !== null,
    });
    this.#service.serve({
      log: node,
      machine: this.#machine,
      onAcknowledged: (group, queue_id, consumer_group) => cursor_sync.mark(group, queue_id, consumer_group),
      checkAdd: (log.engine === 'native' ? nativeAddChecker() : null) ?? checkAddPortably,
      hasSpace: () => !log.low_on_space,
    });
  }

  #setAsideNote(): string {
    const { set_aside } = this.#logs;
    return set_aside === null ? '' : `; a damaged log was set aside as ${set_aside}`;
  }

  /** Lets go of what everybody acknowledged: first in the index, then, behind a checkpoint, in the log. */
  #trim(node: PaxosNode): void {
    const { view } = this.#service;
    const { unclaimed_queues } = trimQueues(this.#machine.queues(), (queue_id) => view.groupsOf(queue_id), 0);
    if (unclaimed_queues > 0 && unclaimed_queues !== this.#unclaimed_queues) {
      this.#options.logger.warn(`${unclaimed_queues} queues hold items, but no consumer group is configured for them`);
    }
    this.#unclaimed_queues = unclaimed_queues;
    // What fails in it goes to `onFailure` of the node.
    void node.checkpoint();
  }

  #watchSpace(log: LogEngine): void {
    if (log.low_on_space === this.#low_on_space) return;
    this.#low_on_space = log.low_on_space;
    if (this.#low_on_space) {
      this.#options.logger.error(
        `the disk of ${resolve(this.#conf.data_dir)} has no room for another segment of the log: Adds are refused ` +
          'with -10319, items can still be consumed; make space, and Adds go on by themselves',
      );
    } else {
      this.#options.logger.info('the disk has room again: Adds are taken');
    }
  }

  #sayNoMaster(groups: readonly number[], connected_peers: number, obstacle: string): void {
    const replicas = this.#place.replicas.length;
    const majority = Math.floor(replicas / 2) + 1;
    const reachable = `${connected_peers + 1} of ${replicas} replicas are connected`;
    const meaning =
      obstacle !== ''
        ? `this replica does not vote: ${obstacle} (${reachable})`
        : connected_peers + 1 < majority
          ? `fewer than a majority of the replicas can be reached (${connected_peers + 1} of ${replicas}, ${majority} ` +
            'are needed): start the others or look at the network; until then nothing is added or handed out'
          : `${reachable}, an election is under way`;
    this.#options.logger.error(
      `MASTERSTAT: ERR: Propose err. paxos_ret 404: no master for ${groupList(groups)}: ${meaning}`,
    );
  }

  /** Fail-stop: says why, answers nothing any more, and leaves the rest to the process. */
  #fail(error: unknown): void {
    if (this.#failed !== null) return;
    const what = error instanceof PhxError ? `${error.code}: ${error.message}` : describeDefect(error);
    this.#failed = what;
    this.#options.logger.error(`${what}; this replica stops`);
    // What else fails while it stops changes nothing any more.
    const end = (): void => this.#options.onFatal(error);
    this.halt().then(end, end);
  }

  #stop(graceful: boolean): Promise<void> {
    this.#closing ??= this.#stopAll(graceful);
    return this.#closing;
  }

  /**
   * Lets other replicas lead while requests are still answered, with where to go. Acknowledgements come first: only the master
   * can replicate them.
   */
  async #handOver(): Promise<void> {
    await this.#cursor_sync?.flush();
    const groups = (await this.#node?.handOver()) ?? 0;
    if (groups === 0) return;
    this.#rpc?.drain();
    await delay(REDIRECTING_MS);
  }

  async #stopAll(graceful: boolean): Promise<void> {
    // Requests in work need everything below them: they come first, then the parts in reverse order.
    const failures: unknown[] = [];
    if (graceful && this.#failed === null) await this.#handOver().catch((error: unknown) => failures.push(error));
    await this.#rpc?.close(graceful ? CLOSE_GRACE_MS : 0);
    for (let stop = this.#stops.pop(); stop !== undefined; stop = this.#stops.pop()) {
      await stop(graceful).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }
}

function describeDefect(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
