/** Simulated time: events in the order of their time, those of one moment in the order in which they were made. */
interface Event {
  readonly at_ms: number;
  readonly sequence: number;
  readonly run: () => void;
}

/** Node tells of rejections that nobody handles between its macrotasks only: there has to be one now and then. */
const EVENTS_PER_MACROTASK = 100;

export class Timeline {
  now_ms = 0;
  events = 0;
  #sequence = 0;
  readonly #heap: Event[] = [];

  after(delay_ms: number, run: () => void): void {
    this.#sequence += 1;
    const event = { at_ms: this.now_ms + delay_ms, sequence: this.#sequence, run };
    const heap = this.#heap;
    let child = heap.push(event) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || before(above, event)) break;
      heap[child] = above;
      child = parent;
    }
    heap[child] = event;
  }

  /** Runs all events up to `until_ms`, or until `done` says so; what an event set off in promises is over before the next. */
  async run(until_ms: number, done: () => boolean = () => false): Promise<void> {
    // From here on it runs in microtasks, whoever called: `promisesSettled` depends on that.
    await macrotask();
    while (!done()) {
      const first = this.#heap[0];
      if (first === undefined || first.at_ms > until_ms) {
        this.now_ms = until_ms;
        return;
      }
      this.#removeFirst();
      this.now_ms = first.at_ms;
      this.events += 1;
      first.run();
      await (this.events % EVENTS_PER_MACROTASK === 0 ? macrotask() : promisesSettled());
    }
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      let least = heap[child];
      if (least === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && before(right, least)) {
        child += 1;
        least = right;
      }
      if (before(last, least)) break;
      heap[parent] = least;
      parent = child;
    }
    heap[parent] = last;
  }
}

/**
 * Resolves when no promise has anything to do any more: Node runs what `nextTick` queued within a microtask when the queue of
 * microtasks is empty. That costs less than half of a macrotask.
 */
function promisesSettled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

function macrotask(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function before(a: Event, b: Event): boolean {
  return a.at_ms < b.at_ms || (a.at_ms === b.at_ms && a.sequence < b.sequence);
}
