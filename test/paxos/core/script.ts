/**
 * Three protocol cores driven by hand: a scenario says what is delivered, lost, made durable and when time passes, and
 * everything that happens becomes a line of a readable trace.
 */
import { crc32 } from 'node:zlib';
import { PhxError } from '../../../src/ts/errors.js';
import { Group } from '../../../src/ts/paxos/core/group.js';
import {
  type AcceptedEntry,
  type CoreOptions,
  DEFAULT_CORE_OPTIONS,
  type Effect,
  type Input,
  type MembersChange,
  type Message,
} from '../../../src/ts/paxos/core/types.js';
import { ScriptNode } from './script_node.js';
import {
  ballotText,
  changeText,
  commandTexts,
  isAbout,
  isNoop,
  membersText,
  messageText,
  valueText,
  writeText,
} from './script_text.js';

const PROPOSE_TIMEOUT_MS = 1_500;

interface Flying {
  readonly from: number;
  readonly to: number;
  readonly message: Message;
}

export class Script {
  readonly lines: string[] = [];
  readonly #options: CoreOptions;
  readonly #nodes: ScriptNode[] = [];
  #now_ms = 0;
  #flying: Flying[] = [];
  #lost: (flying: Flying) => boolean = () => false;
  #held: (flying: Flying) => boolean = () => false;
  readonly #waiting: Flying[] = [];
  readonly #noops = new Set<number>();
  #quiet = false;
  #snapshots_lost = false;
  readonly #heartbeats = new Map<number, Message>();
  readonly #replies = new Map<number, Message>();
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
    this.#nodes.push(new ScriptNode(id));
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

  /** From now on nothing is said of the no-operations that lead to new members. */
  hideNoops(): void {
    this.#quiet = true;
  }

  /** The process stands still: it gets no time and no messages. */
  pause(id: number): void {
    this.#line(`${id} is paused`);
    this.#node(id).paused = true;
    this.hold(({ to }) => to === id);
  }

  resume(id: number): void {
    this.#line(`${id} runs again`);
    this.#node(id).paused = false;
    this.release();
  }

  /** The machine slept: its clocks have run apart. */
  jumpClock(id: number): void {
    this.#line(`the clocks of ${id} ran apart`);
    this.#step(id, { type: 'clock_jump' });
  }

  /** These records on the disk of `id` can no longer be read. */
  damage(id: number, ...instances: readonly number[]): void {
    this.#line(`on the disk of ${id} ${instances.join(', ')} cannot be read any more`);
    for (const instance of instances) this.#node(id).disk.delete(`entry ${instance}`);
  }

  /** The next start of `id` reads a wrong value, which nothing on its disk shows. */
  misread(id: number, misreads: boolean): void {
    this.#node(id).misreads = misreads;
  }

  /** Keeps the state of `id`, and deletes its log below. */
  checkpoint(id: number): void {
    const node = this.#node(id);
    const { group } = node;
    if (group === null) throw new Error(`${id} is down`);
    const { applied_through: through, chain, configurations } = group;
    this.#line(`${id} keeps its state through ${through} and deletes the log below`);
    node.rebase({
      snapshot: { through, chain, configurations, retained_from: through + 1 },
      applied: [...node.applied],
    });
    this.#step(id, { type: 'retained', from: through + 1 });
  }

  /** Snapshots never arrive, or do again. */
  loseSnapshots(lost: boolean): void {
    this.#snapshots_lost = lost;
  }

  /** The disk of `id` is lost. */
  wipe(id: number): void {
    this.#line(`the disk of ${id} is lost`);
    const empty = new ScriptNode(id);
    this.#nodes[this.#nodes.findIndex((each) => each.id === id)] = empty;
    empty.voting = false;
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
    const restored = node.restore();
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
      for (const { id, paused } of this.#nodes) if (!paused) this.#step(id, { type: 'tick' });
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

  /** The newest answer to a heartbeat that `id` sent. */
  lastReply(id: number): Message {
    const reply = this.#replies.get(id);
    if (reply === undefined) throw new Error(`${id} has answered no heartbeat`);
    return reply;
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
    const beat = message.type === 'heartbeat' || message.type === 'heartbeat_reply';
    if (!beat && !(this.#quiet && isAbout(message, this.#noops))) {
      this.#line(`${from} → ${to}  ${messageText(message)}`);
    }
    this.#step(to, { type: 'message', from, message });
  }

  #syncOne(): boolean {
    for (const node of this.#nodes) {
      if (this.#slow_disks.has(node.id)) continue;
      const last = node.pending.at(-1);
      if (last === undefined) continue;
      node.sync();
      this.#step(node.id, { type: 'durable', append: last.append });
      return true;
    }
    return false;
  }

  #step(id: number, input: Input): void {
    const { group } = this.#node(id);
    if (group === null) return;
    const before = group.role;
    const effects = this.#effects(id, group, input);
    if (group.role !== before) this.#line(`${id} becomes ${group.role}`);
    for (const effect of effects) this.#perform(this.#node(id), effect);
  }

  /** A replica that finds out that it has applied something wrong stops. */
  #effects(id: number, group: Group, input: Input): Effect[] {
    try {
      return group.step(this.#now_ms, input);
    } catch (error) {
      if (!(error instanceof PhxError)) throw error;
      this.#line(`${id} stops: ${error.code}`);
      this.#node(id).group = null;
      return [];
    }
  }

  #perform(node: ScriptNode, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        if (effect.message.type === 'heartbeat_reply') this.#replies.set(node.id, effect.message);
        if (effect.message.type === 'heartbeat') this.#heartbeats.set(node.id, effect.message);
        this.#flying.push({ from: node.id, to: effect.to, message: effect.message });
        break;
      case 'append':
        node.pending.push(effect);
        for (const write of effect.writes) {
          if (write.type === 'entry' && isNoop(write.value)) this.#noops.add(write.instance);
          if (write.type !== 'entry' || !this.#hides(write.instance))
            this.#line(`${node.id} writes ${writeText(write)}`);
        }
        break;
      case 'apply': {
        const commands = commandTexts(effect.value);
        node.applied.push(...commands);
        const answers = effect.proposals === null ? '' : `, answers proposal ${effect.proposals.join(', ')}`;
        if (!this.#hides(effect.instance))
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
        this.#sendSnapshot(node, effect.to);
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

  #hides(instance: number): boolean {
    return this.#quiet && this.#noops.has(instance);
  }

  /** The whole of it, at once; nothing of it if what is on its way from one to the other is lost. */
  #sendSnapshot(from: ScriptNode, to: number): void {
    const { snapshot, applied } = from.base;
    if (this.#snapshots_lost) {
      this.#line(`${from.id} → ${to}  snapshot through ${snapshot.through}, cut off in the middle`);
      return;
    }
    this.#line(`${from.id} → ${to}  snapshot through ${snapshot.through}`);
    const node = this.#node(to);
    node.rebase(from.base);
    node.applied.splice(0, node.applied.length, ...applied);
    this.#step(to, { type: 'snapshot_installed', snapshot });
  }

  #node(id: number): ScriptNode {
    const node = this.#nodes.find((each) => each.id === id);
    if (node === undefined) throw new Error(`no replica ${id}`);
    return node;
  }

  #line(text: string): void {
    this.lines.push(`${String(this.#now_ms).padStart(5)} ms  ${text}`);
  }
}
