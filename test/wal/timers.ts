/** Timers that run when the test says so. */
export class Timers {
  private readonly waiting = new Set<() => void>();

  readonly later = (_delay_ms: number, run: () => void): (() => void) => {
    this.waiting.add(run);
    return () => this.waiting.delete(run);
  };

  runAll(): void {
    const due = [...this.waiting];
    // What they start waits for the next call.
    this.waiting.clear();
    for (const run of due) run();
  }
}
