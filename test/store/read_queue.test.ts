import test from 'ava';
import fc from 'fast-check';
import { encode } from '../../src/ts/protocol/messages.js';
import { QueueIndex } from '../../src/ts/store/queue_index.js';
import { type ReadRequest, readQueue } from '../../src/ts/store/read_queue.js';
import { testItem } from './requests.js';

/** A queue whose n-th value holds `sizes[n]` items; the cursor of each is in its buffer. */
function queueOf(sizes: readonly number[]): {
  index: QueueIndex;
  value: (instance: number) => Uint8Array;
  items: number;
} {
  const index = new QueueIndex();
  const values: Uint8Array[] = [];
  let cursor = 0;
  for (const [instance, size] of sizes.entries()) {
    let offset = 3;
    const parts: Uint8Array[] = [new Uint8Array(offset)];
    for (let i = 0; i < size; i += 1) {
      cursor += 1;
      const item = encode('QItem', testItem(`item ${cursor}`, { consumer_group_ids: BigInt(cursor % 3) }));
      index.append(cursor, instance, offset, item.length);
      parts.push(item);
      offset += item.length;
    }
    values.push(Buffer.concat(parts));
  }
  return { index, items: cursor, value: (instance) => values[instance] ?? new Uint8Array(0) };
}

function request(changes: Partial<ReadRequest> & Pick<ReadRequest, 'value'>): ReadRequest {
  return {
    start: { prev: 0, next: 0 },
    items_max: 1_000_000,
    bytes_max: 1_000_000_000,
    youngest: null,
    wants: () => true,
    expired: () => false,
    ...changes,
  };
}

test('reading in pieces gives every wanted item once, in order, within the limits', async (t) => {
  const sizes = fc.array(fc.nat(40), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1, max: 50 }), fc.boolean(), async (queue_sizes, items_max, slow) => {
      const { index, value, items } = queueOf(queue_sizes);
      const cursors: number[] = [];
      let next = 0;
      for (;;) {
        const read = await readQueue(
          index,
          request({
            start: { prev: 0, next },
            items_max,
            wants: (item) => item.consumer_group_ids !== 0n,
            value: slow ? async (instance) => value(instance) : value,
          }),
        );
        t.true(read.items.length <= items_max);
        cursors.push(...read.items.map((item) => item.cursor));
        if (read.end.next === next) break;
        next = read.end.next;
      }
      const wanted = Array.from({ length: items }, (_, i) => i + 1).filter((cursor) => cursor % 3 !== 0);
      t.deepEqual(cursors, wanted);
    }),
    { numRuns: 50 },
  );
});

test('what is acknowledged is not handed out, even where next is behind', async (t) => {
  const { index, value } = queueOf([5]);
  const read = await readQueue(index, request({ value, start: { prev: 3, next: 1 } }));
  t.deepEqual(
    read.items.map((item) => item.cursor),
    [4, 5],
  );
});

test('items of many large values are copied out of them', async (t) => {
  const { index, value } = queueOf(new Array<number>(40).fill(1));
  const padded = new Map<number, Uint8Array>();
  const large = (instance: number): Uint8Array => {
    const known = padded.get(instance) ?? Buffer.concat([value(instance), Buffer.alloc(1024 * 1024)]);
    padded.set(instance, known);
    return known;
  };
  const read = await readQueue(index, request({ value: large }));
  t.is(read.items.length, 40);
  const views = read.items.filter((item) => item.bytes.buffer.byteLength > 1024 * 1024);
  t.true(views.length < 20);
});

test('a failed read rejects', async (t) => {
  const { index } = queueOf([1]);
  const value = (): Promise<Uint8Array> => Promise.reject(new Error('disk'));
  await t.throwsAsync(readQueue(index, request({ value })), { message: 'disk' });
});
