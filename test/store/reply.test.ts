import test from 'ava';
import { scanItem } from '../../src/ts/protocol/add_request.js';
import { decode, encode, type Init, type QItem } from '../../src/ts/protocol/messages.js';
import type { FoundItem } from '../../src/ts/store/read_queue.js';
import { addReply, getReply, refusalReply } from '../../src/ts/store/reply.js';
import { NO_CURSOR, testItem } from './requests.js';

function found(item: Init<QItem>, cursor: number): FoundItem {
  const bytes = encode('QItem', item);
  return { cursor, bytes, fields: scanItem(bytes) };
}

function getBody(items: readonly FoundItem[], prev: number, next: number): Uint8Array {
  return Buffer.concat(getReply(items, { prev, next }));
}

test('replies are byte for byte those of the original', (t) => {
  t.is(Buffer.concat(addReply(240)).toString('hex'), '08f001aa0600');
  t.is(Buffer.concat(addReply(null)).toString('hex'), 'aa0600');
  t.is(Buffer.concat(refusalReply(null)).toString('hex'), 'aa0600');
  const master = { ip: '127.0.0.1', port: 5100, paxos_port: 5101 };
  t.is(Buffer.concat(refusalReply(master)).toString('hex'), 'aa06110a093132372e302e302e3110ec2718ed27');
  t.is(Buffer.from(getBody([], 192, 192)).toString('hex'), '58c00160c001aa0600');
});

test('each item carries its own cursor, whatever it carried before', (t) => {
  const cursors = [1, 127, 128, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
  const items = cursors.flatMap((cursor) => [
    found(testItem('none'), cursor),
    found(testItem('small', { cursor_id: 3n }), cursor),
    found(testItem('absent', { cursor_id: undefined }), cursor),
  ]);
  const answer = decode('GetResponse', getBody(items, 5, 9));
  t.deepEqual(
    answer.items.map((item) => item.cursor_id),
    cursors.flatMap((cursor) => [BigInt(cursor), BigInt(cursor), BigInt(cursor)]),
  );
  for (const [i, item] of answer.items.entries()) {
    const sent = items[i];
    t.deepEqual({ ...item, cursor_id: 0n }, { ...decode('QItem', sent?.bytes ?? Buffer.alloc(0)), cursor_id: 0n });
  }
  t.is(answer.prev_cursor_id, 5n);
  t.is(answer.next_cursor_id, 9n);
});

test('fields that this program does not know stay', (t) => {
  const unknown = Buffer.from('c23e03616263', 'hex');
  const bytes = Buffer.concat([encode('QItem', testItem('x')), unknown]);
  const body = getBody([{ cursor: 1, bytes, fields: scanItem(bytes) }], 0, 1);
  t.true(Buffer.from(body).includes(unknown));
  t.is(decode('GetResponse', body).items[0]?.cursor_id, 1n);
});

test('no cursor is all ones', (t) => {
  const answer = decode('GetResponse', getBody([], 0, 0));
  t.is(answer.prev_cursor_id, NO_CURSOR);
  t.is(answer.next_cursor_id, NO_CURSOR);
});
