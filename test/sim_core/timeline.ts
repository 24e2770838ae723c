/** Simulated time: events in the order of their time, those of one moment in the order in which they were made. */
interface Event {
  readonly at_ms: number;
  readonly sequence: number;
  readonly run: () => void;
}

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

  /** Runs all events up to `until_ms`, or until `done` says so. */
  run(until_ms: number, done: () => boolean = () => false): void {
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

function before(a: Event, b: Event): boolean {
  return a.at_ms < b.at_ms || (a.at_ms === b.at_ms && a.sequence < b.sequence);
}
