import { Counter, Gauge, type Registry } from 'prom-client';
import type { Consumer } from './consumer.js';
import type { Counts } from './tally.js';

const COUNTERS: Readonly<Record<keyof Counts, { readonly name: string; readonly help: string }>> = {
  handled: { name: 'phxqueue_consumer_items_handled_total', help: 'Calls of handlers that have ended.' },
  errors: { name: 'phxqueue_consumer_handler_errors_total', help: 'Calls of handlers that failed.' },
  retries: { name: 'phxqueue_consumer_retries_total', help: 'Items enqueued again after a failure.' },
  dead_letters: { name: 'phxqueue_consumer_dead_letters_total', help: 'Items that went to the dead letters.' },
};

/** Puts a consumer's figures into a registry; they are read when the registry is. */
export function consumerMetrics(consumer: Consumer, registry: Registry): void {
  const registers = [registry];
  const totals = (): Counts => consumer.figures.counts;
  addCounter('handled', totals, registers);
  addCounter('errors', totals, registers);
  addCounter('retries', totals, registers);
  addCounter('dead_letters', totals, registers);
  new Gauge({
    name: 'phxqueue_consumer_queue_lag_seconds',
    help: 'Age of the newest item when it was fetched; 0 when the queue was found empty.',
    labelNames: ['group', 'store', 'queue'],
    registers,
    collect() {
      for (const { consumer_group_id, store_id, queue_id, lag_ms } of consumer.figures.lags) {
        this.set({ group: consumer_group_id, store: store_id, queue: queue_id }, lag_ms / 1000);
      }
    },
  });
  new Gauge({
    name: 'phxqueue_consumer_workers',
    help: 'Worker processes that run.',
    registers,
    collect() {
      this.set(consumer.worker_pids.length);
    },
  });
}

function addCounter(what: keyof Counts, totals: () => Counts, registers: Registry[]): void {
  new Counter({
    ...COUNTERS[what],
    registers,
    collect() {
      this.reset();
      this.inc(totals()[what]);
    },
  });
}
