/**
 * Three protocol cores driven by hand: a scenario says what is delivered, lost, made durable and when time passes, and
 * everything that happens becomes a line of a readable trace.
 */
import { crc32 } from 'node:zlib';
import { NO_BALLOT, replicaOf } from '../../../src/ts/paxos/core/ballot.js';
import { Group } from '../../../src/ts/paxos/core/group.js';
import { type Configuration, Members } from '../../../src/ts/paxos/core/members.js';
import type { Restored } from '../../../src/ts/paxos/core/state.js';
import {
  type AcceptedEntry,
  type CoreOptions,
  DEFAULT_CORE_OPTIONS,
  type Effect,
  type Input,
  type LogWrite,
  type MembersChange,
  type Message,
} from '../../../src/ts/paxos/core/types.js';
import { commandsOf, rosterOf } from '../../../src/ts/paxos/core/value.js';
import { founded } from './probe.js';

const PROPOSE_TIMEOUT_MS = 1_500;

interface Flying {
  readonly from: number;
  readonly to: number;
  readonly message: Message;
}

interface Node {
  readonly id: number;
  group: Group | null;
  /** Appends that are not durable yet. */
  pending: { readonly append: number; readonly writes: readonly LogWrite[] }[];
  readonly disk: Map<string, LogWrite>;
  readonly applied: string[];
  voting: boolean;
}

export class Script {
  readonly lines: string[] = [];
  readonly #options: CoreOptions;
  readonly #nodes: Node[] = [];
  #now_ms = 0;
  #flying: Flying[] = [];
  #lost: (flying: Flying) => boolean = () => false;
  #held: (flying: Flying) => boolean = () => false;
  readonly #waiting: Flying[] = [];
  readonly #heartbeats = new Map<number, Message>();
  #slow_disks = new Set<number>();
  #proposals = 0;

  constructor(options: Partial<CoreOptions> = {}) {
    // Without chance, the replica with the lowest number stands first.
    this.#options = { ...DEFAULT_CORE_OPTIONS, ...options };
    for (const id of [1, 2, 3]) this.join(id);
  }

  get text(): string {
    return `${this.lines.join('\n')}\n`;
  }

  /** A heading in the trace. */
  say(text: string): void {
    this.lines.push('', `# ${text}`);
  }

  applied(id: number): readonly string[] {
    return this.#node(id).applied;
  }

  isMaster(id: number): boolean {
    return this.#node(id).group?.isMaster(this.#now_ms) === true;
  }

  /** Messages for which `lost` holds never arrive, from now on. */
  lose(lost: (flying: Flying) => boolean): void {
    this.#lost = lost;
  }

  /** The network carries everything again. */
  heal(): void {
    this.#lost = () => false;
  }

  /** Nobody hears `id`, and it hears nobody. */
  isolate(id: number): void {
    this.lose(({ from, to }) => from === id || to === id);
  }

  /** What this replica appends stays pending until `syncDisk`. */
  holdDisk(id: number): void {
    this.#slow_disks.add(id);
  }

  syncDisk(id: number): void {
    this.#slow_disks.delete(id);
    this.settle();
  }

  /** A replica with an empty disk starts; 1, 2 and 3 are the founders. */
  join(id: number): void {
    this.#nodes.push({ id, group: null, pending: [], disk: new Map(), applied: [], voting: true });
    this.start(id);
  }

  change(id: number, change: MembersChange): void {
    this.#proposals += 1;
    this.#line(`${id} is asked to ${changeText(change)} (proposal ${this.#proposals})`);
    const deadline_ms = this.#now_ms + PROPOSE_TIMEOUT_MS;
    this.#step(id, { type: 'change_members', id: this.#proposals, deadline_ms, change });
  }

  role(id: number): string {
    return this.#node(id).group?.role ?? 'dead';
  }

  voting(id: number, allowed: boolean): void {
    this.#line(`${id} ${allowed ? 'may vote' : 'may not vote'}`);
    this.#node(id).voting = allowed;
    this.#step(id, { type: 'voting', allowed });
  }

  crash(id: number): void {
    const node = this.#node(id);
    this.#line(`${id} crashes; ${node.pending.length} appends are lost`);
    node.group = null;
    node.pending = [];
    this.#flying = this.#flying.filter(({ to }) => to !== id);
  }

  start(id: number): void {
    const node = this.#node(id);
    node.applied.length = 0;
    const restored = this.#restore(node);
    if (this.#now_ms > 0) {
      this.#line(`${id} starts: promised ${ballotText(restored.promised)}, chosen through ${restored.chosen_through}`);
    }
    const config = { group: 0, self: id, options: this.#options, checksum: crc32, voting: node.voting, seed: id };
    node.group = new Group(config, restored, this.#now_ms);
  }

  propose(id: number, ...texts: string[]): void {
    for (const text of texts) {
      this.#proposals += 1;
      const bytes = Buffer.from(text);
      const proposal = {
        id: this.#proposals,
        parts: [bytes],
        bytes: bytes.length,
        deadline_ms: this.#now_ms + PROPOSE_TIMEOUT_MS,
      };
      this.#line(`${id} is asked for "${text}" (proposal ${proposal.id})`);
      this.#step(id, { type: 'propose', proposal });
    }
    this.#step(id, { type: 'flush' });
  }

  transfer(id: number, to: number | null): void {
    this.#line(`${id} is asked to hand over${to === null ? '' : ` to ${to}`}`);
    this.#step(id, { type: 'transfer', to });
  }

  /** Lets time pass in ticks of 20 ms; after each, everything that can happen happens. */
  pass(duration_ms: number): void {
    for (const until_ms = this.#now_ms + duration_ms; this.#now_ms < until_ms; ) {
      this.#now_ms += 20;
      for (const { id } of this.#nodes) this.#step(id, { type: 'tick' });
      this.settle();
    }
  }

  /** Hands a message to a replica as if a peer had sent it. */
  deliver(from: number, to: number, message: Message, certainly = false): void {
    if (certainly) this.#arrive({ from, to, message });
    else this.#flying.push({ from, to, message });
    this.settle();
  }

  /** The newest heartbeat that `id` sent. */
  lastHeartbeat(id: number): Message {
    const heartbeat = this.#heartbeats.get(id);
    if (heartbeat === undefined) throw new Error(`${id} has sent no heartbeat`);
    return heartbeat;
  }

  /** Messages for which `held` holds wait until `release`. */
  hold(held: (flying: Flying) => boolean): void {
    this.#held = held;
  }

  release(): void {
    this.#held = () => false;
    this.#flying.push(...this.#waiting.splice(0));
  }

  /** Delivers and syncs until nothing is left to happen. */
  settle(): void {
    for (;;) {
      const flying = this.#flying.shift();
      if (flying !== undefined) {
        if (this.#lost(flying)) continue;
        if (this.#held(flying)) this.#waiting.push(flying);
        else this.#arrive(flying);
        continue;
      }
      if (!this.#syncOne()) return;
    }
  }

  #arrive({ from, to, message }: Flying): void {
    if (message.type !== 'heartbeat' && message.type !== 'heartbeat_reply') {
      this.#line(`${from} → ${to}  ${messageText(message)}`);
    }
    this.#step(to, { type: 'message', from, message });
  }

  #syncOne(): boolean {
    for (const node of this.#nodes) {
      if (this.#slow_disks.has(node.id)) continue;
      const last = node.pending.at(-1);
      if (last === undefined) continue;
      for (const { writes } of node.pending) for (const write of writes) store(node.disk, write);
      node.pending = [];
      this.#step(node.id, { type: 'durable', append: last.append });
      return true;
    }
    return false;
  }

  #step(id: number, input: Input): void {
    const { group } = this.#node(id);
    if (group === null) return;
    const before = group.role;
    const effects = group.step(this.#now_ms, input);
    if (group.role !== before) this.#line(`${id} becomes ${group.role}`);
    for (const effect of effects) this.#perform(this.#node(id), effect);
  }

  #perform(node: Node, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        if (effect.message.type === 'heartbeat') this.#heartbeats.set(node.id, effect.message);
        this.#flying.push({ from: node.id, to: effect.to, message: effect.message });
        break;
      case 'append':
        node.pending.push(effect);
        for (const write of effect.writes) this.#line(`${node.id} writes ${writeText(write)}`);
        break;
      case 'apply': {
        const commands = commandTexts(effect.value);
        node.applied.push(...commands);
        const answers = effect.proposals === null ? '' : `, answers proposal ${effect.proposals.join(', ')}`;
        this.#line(`${node.id} applies ${effect.instance} ${valueText(effect.value)}${answers}`);
        break;
      }
      case 'refuse':
        this.#line(`${node.id} refuses proposal ${effect.proposal}: ${effect.reason}`);
        break;
      case 'members': {
        const asked = effect.proposal === null ? '' : `, answers proposal ${effect.proposal}`;
        this.#line(`${node.id} learns of members ${membersText(effect.configuration)}${asked}`);
        break;
      }
      case 'removed':
        this.#line(`${node.id} is a member no more`);
        break;
      case 'serve_snapshot':
        break;
      case 'transferred':
        this.#line(`${node.id} has handed over to ${effect.to}`);
        break;
      case 'transfer_refused':
        this.#line(`${node.id} does not hand over: ${effect.reason}`);
        break;
      case 'serve_fetch': {
        const entries: AcceptedEntry[] = [];
        for (let instance = effect.from; instance <= effect.through; instance += 1) {
          const entry = node.disk.get(`entry ${instance}`);
          if (entry?.type === 'entry') entries.push(entry);
        }
        this.#flying.push({ from: node.id, to: effect.to, message: { type: 'learn', entries } });
        break;
      }
    }
  }

  #restore(node: Node): Restored {
    const promise = node.disk.get('promise');
    const grant = node.disk.get('longest_grant');
    const entries = [...node.disk.values()].flatMap((write) => (write.type === 'entry' ? [write] : []));
    const chosen_through = Math.max(0, ...entries.map((entry) => entry.chosen_through));
    entries.sort((a, b) => a.instance - b.instance);
    const members = new Members(0, [founded([1, 2, 3])]);
    let chain = 0;
    for (const { instance, value } of entries.filter((entry) => entry.instance <= chosen_through)) {
      node.applied.push(...commandTexts(value));
      chain = crc32(value, chain);
      const roster = rosterOf(value);
      if (roster !== null) members.learn(instance, roster);
      members.forget(instance);
    }
    return {
      promised: promise?.type === 'promise' ? promise.ballot : NO_BALLOT,
      longest_grant_ms: grant?.type === 'longest_grant' ? grant.lease_ms : 0,
      chosen_through,
      chain,
      configurations: members.list,
      known_through: chosen_through,
      retained_from: 1,
      entries: entries.filter(({ instance }) => instance > chosen_through),
    };
  }

  #node(id: number): Node {
    const node = this.#nodes.find((each) => each.id === id);
    if (node === undefined) throw new Error(`no replica ${id}`);
    return node;
  }

  #line(text: string): void {
    this.lines.push(`${String(this.#now_ms).padStart(5)} ms  ${text}`);
  }
}

function store(disk: Map<string, LogWrite>, write: LogWrite): void {
  disk.set(write.type === 'entry' ? `entry ${write.instance}` : write.type, write);
}

/** Learners in brackets. */
function membersText({ members, from }: Configuration): string {
  const names = members.map(({ id, role }) => (role === 'voter' ? `${id}` : `(${id})`));
  return `${names.join(' ')}, from ${from} on`;
}

function changeText(change: MembersChange): string {
  switch (change.type) {
    case 'add_learner':
      return `add learner ${change.member.id}`;
    case 'replace':
      return `replace ${change.id} by ${change.by.id}`;
    default:
      return `${change.type} ${change.id}`;
  }
}

/** Round and replica, as people speak of ballots. */
function ballotText(ballot: number & { readonly __brand: 'Ballot' }): string {
  return `${Math.floor(ballot / 65_536)}.${replicaOf(ballot)}`;
}

function commandTexts(value: Uint8Array): string[] {
  return commandsOf(value).map(({ offset, length }) => Buffer.from(value.subarray(offset, offset + length)).toString());
}

function valueText(value: Uint8Array): string {
  const roster = rosterOf(value);
  if (roster !== null) return `members ${roster.members.map(({ id }) => id).join(' ')}`;
  const texts = commandTexts(value);
  return texts.length === 0 ? 'no-op' : `"${texts.join('", "')}"`;
}

function writeText(write: LogWrite): string {
  if (write.type === 'promise') return `promise ${ballotText(write.ballot)}`;
  if (write.type === 'longest_grant') return `longest grant ${write.lease_ms} ms`;
  return `${write.instance} at ${ballotText(write.ballot)} ${valueText(write.value)}`;
}

function messageText(message: Message): string {
  switch (message.type) {
    case 'pre_vote':
      return `pre_vote, chosen through ${message.chosen_through}`;
    case 'pre_vote_reply':
      return `pre_vote_reply ${message.granted ? 'granted' : 'refused'}`;
    case 'prepare':
    case 'release':
    case 'take_over':
      return `${message.type} ${ballotText(message.ballot)}`;
    case 'promise': {
      const held = message.entries.map((entry) => `${entry.instance} at ${ballotText(entry.ballot)}`);
      const accepted = held.length === 0 ? 'nothing' : held.join(', ');
      return `promise ${ballotText(message.ballot)}, chosen through ${message.chosen_through}, accepted ${accepted}`;
    }
    case 'accept':
      return `accept ${message.instance} at ${ballotText(message.ballot)} ${valueText(message.value)}`;
    case 'accepted':
      return `accepted ${message.instances.join(', ')} at ${ballotText(message.ballot)}`;
    case 'reject':
      return `reject ${ballotText(message.ballot)}, promised ${ballotText(message.promised)}`;
    case 'fetch':
      return `fetch ${message.from} to ${message.through}`;
    case 'learn':
      return `learn ${message.entries.map((entry) => `${entry.instance} ${valueText(entry.value)}`).join(', ')}`;
    case 'removed':
      return 'removed';
    case 'diverged':
      return `diverged at ${message.instance}`;
    case 'heartbeat':
    case 'heartbeat_reply':
      return message.type;
  }
}
