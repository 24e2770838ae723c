import test from 'ava';
import type { PhxError } from '../../src/ts/errors.js';
import { decode, encode, type GetRequest, type Init, type QItem } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { addItems } from '../../src/ts/store/add.js';
import { type GetDependencies, type Got, getItems } from '../../src/ts/store/get.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import type { StoreView } from '../../src/ts/store/store_view.js';
import { MemoryLog } from './memory_log.js';
import {
  addBody,
  NO_CURSOR,
  STORE_ID,
  TOPIC_ID,
  test_add_settings,
  test_replicas,
  testItem,
  testView,
} from './requests.js';

class Fixture {
  readonly machine = new StoreStateMachine(1);
  readonly log = new MemoryLog(this.machine, 1, test_replicas);
  readonly acknowledged: string[] = [];
  readonly unreadable: string[] = [];
  view: StoreView = testView();
  now_ms: () => number = () => 0;

  async add(...items: (string | Init<QItem>)[]): Promise<void> {
    const body = addBody(
      0,
      items.map((item) => (typeof item === 'string' ? testItem(item) : item)),
    );
    await addItems(body, { view: this.view, log: this.log, ...test_add_settings, now_ms: () => 0 });
  }

  get(changes: Init<GetRequest> = {}): ReturnType<typeof getItems> {
    const request = encode('GetRequest', {
      topic_id: TOPIC_ID,
      store_id: STORE_ID,
      queue_id: 0,
      limit: 100,
      consumer_group_id: 1,
      prev_cursor_id: NO_CURSOR,
      next_cursor_id: NO_CURSOR,
      ...changes,
    });
    const dependencies: GetDependencies = {
      view: this.view,
      log: this.log,
      machine: this.machine,
      now_ms: () => this.now_ms(),
      onAcknowledged: (group, queue_id, consumer_group) =>
        this.acknowledged.push(`${group} ${queue_id} ${consumer_group}`),
      onUnreadable: (_queue, error: PhxError) => this.unreadable.push(error.code),
    };
    return getItems(decode('GetRequest', request), dependencies);
  }

  async got(changes: Init<GetRequest> = {}): Promise<Got> {
    const answer = await this.get(changes);
    if (!('items' in answer)) throw new Error(`refused with ${answer.code}`);
    return answer;
  }
}

function texts(got: Got): string[] {
  return got.items.map(({ bytes }) => Buffer.from(decode('QItem', bytes).buffer).toString());
}

test('items come in order, the limit holds exactly, the next Get acknowledges', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a', 'b', 'c');
  const first = await fixture.got({ limit: 2 });
  t.deepEqual(texts(first), ['a', 'b']);
  t.deepEqual(first.cursors, { prev: 0, next: 2 });
  t.deepEqual(fixture.acknowledged, []);
  const second = await fixture.got({ prev_cursor_id: 2n, next_cursor_id: 2n });
  t.deepEqual(texts(second), ['c']);
  t.deepEqual(second.cursors, { prev: 2, next: 3 });
  t.deepEqual(fixture.acknowledged, ['0 0 1']);
  const idle = await fixture.got({ prev_cursor_id: 3n, next_cursor_id: 3n });
  t.deepEqual(idle.items, []);
  t.deepEqual(idle.cursors, { prev: 3, next: 3 });
});

test('a client that lost its place starts after the last acknowledgement', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a', 'b', 'c');
  await fixture.got({ limit: 1 });
  await fixture.got({ limit: 1, prev_cursor_id: 1n, next_cursor_id: 1n });
  t.deepEqual(texts(await fixture.got()), ['b', 'c']);
  t.deepEqual(texts(await fixture.got({ prev_cursor_id: 77n, next_cursor_id: 77n })), ['b', 'c']);
});

test('limit 0 acknowledges and hands out nothing', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a', 'b');
  await fixture.got();
  const answer = await fixture.got({ limit: 0, prev_cursor_id: 2n, next_cursor_id: 2n });
  t.deepEqual(answer.items, []);
  t.is(fixture.machine.queue(0)?.cursors.of(1).prev, 2);
  const negative = await fixture.got({ limit: -1, prev_cursor_id: 2n, next_cursor_id: 2n });
  t.deepEqual(negative.items, []);
});

test('consumer groups stand apart, and a mask keeps items from the others', async (t) => {
  const fixture = new Fixture();
  await fixture.add(
    'all',
    testItem('second', { consumer_group_ids: 2n }),
    testItem('last', { consumer_group_ids: 1n << 63n }),
  );
  const first = await fixture.got();
  t.deepEqual(texts(first), ['all']);
  t.is(first.cursors.next, 3);
  t.is(first.skipped_items, 2);
  t.deepEqual(texts(await fixture.got({ consumer_group_id: 2 })), ['all', 'second']);
  t.deepEqual(texts(await fixture.got({ consumer_group_id: 64 })), ['all', 'last']);
});

test('skip rules see the item, the queue and the group', async (t) => {
  const fixture = new Fixture();
  fixture.view = testView({
    skips: (item, queue_id, group) => item.uin === 7n && item.handle_id === 2 && queue_id === 0 && group === 1,
  });
  await fixture.add('skipped', testItem('kept', { meta: { topic_id: TOPIC_ID, uin: 8n, handle_id: 2 } }));
  t.deepEqual(texts(await fixture.got()), ['kept']);
  t.deepEqual(texts(await fixture.got({ consumer_group_id: 2 })), ['skipped', 'kept']);
});

test('reading stops before the first item that is too young', async (t) => {
  const fixture = new Fixture();
  await fixture.add(
    testItem('old', { atime: 100n, atime_ms: 1 }),
    testItem('edge', { atime: 100n, atime_ms: 2 }),
    testItem('young', { atime: 100n, atime_ms: 3 }),
    testItem('old too', { atime: 1n, atime_ms: 0 }),
  );
  const got = await fixture.got({ atime: 100n, atime_ms: 2 });
  t.deepEqual(texts(got), ['old', 'edge']);
  t.is(got.cursors.next, 2);
});

test('a Get stops after the item that reaches the size limit', async (t) => {
  const fixture = new Fixture();
  for (const text of ['a', 'b', 'c']) await fixture.add(text);
  const bytes = encode('QItem', testItem('a')).length;
  fixture.view = testView({ items_byte_size_limit: bytes + 1 });
  t.deepEqual(texts(await fixture.got()), ['a', 'b']);
  fixture.view = testView({ items_byte_size_limit: bytes });
  t.deepEqual(texts(await fixture.got()), ['a']);
});

test('the time limit ends a long scan, after one step at least', async (t) => {
  const fixture = new Fixture();
  // More items than one step takes, none of them for group 1.
  const others = Array.from({ length: 300 }, (_, i) => testItem(String(i), { consumer_group_ids: 2n }));
  await fixture.add(...others);
  let time_ms = 0;
  fixture.now_ms = () => {
    time_ms += 1_000;
    return time_ms;
  };
  const first = await fixture.got();
  t.true(first.skipped_items > 0 && first.skipped_items < 300);
  let skipped_items = first.skipped_items;
  let { next } = first.cursors;
  for (let gets = 0; gets < 300 && skipped_items < 300; gets += 1) {
    const more = await fixture.got({ next_cursor_id: BigInt(next) });
    skipped_items += more.skipped_items;
    next = more.cursors.next;
  }
  t.is(skipped_items, 300);
  t.is(next, 300);
});

test('random reading moves no cursor', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a', 'b', 'c');
  await fixture.got({ limit: 1 });
  t.deepEqual(texts(await fixture.got({ random: true })), ['a', 'b', 'c']);
  t.deepEqual(texts(await fixture.got({ random: true, next_cursor_id: 2n })), ['c']);
  t.deepEqual(fixture.machine.queue(0)?.cursors.of(1), { prev: 0, next: 1, replicated_prev: 0 });
});

test('values from disk are as good as those from memory', async (t) => {
  const fixture = new Fixture();
  fixture.log.slow_reads = true;
  const expected: string[] = [];
  for (let i = 0; i < 50; i += 1) {
    expected.push(`item ${i}`);
    await fixture.add(`item ${i}`);
  }
  t.deepEqual(texts(await fixture.got()), expected);
});

test('a value that cannot be read is an error and moves no cursor', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a');
  await fixture.add('b');
  fixture.log.corrupt.add(2);
  t.deepEqual(await fixture.get(), { code: RetCode.GET_ITEM_BY_CURSOR_ID, redirect: null });
  t.deepEqual(fixture.unreadable, ['LOG_CORRUPT']);
  t.is(fixture.machine.queue(0)?.cursors.of(1).next, 0);
});

test('mastership lost while reading moves no cursor', async (t) => {
  const fixture = new Fixture();
  await fixture.add('a');
  let calls = 0;
  fixture.log.role = () => {
    calls += 1;
    return calls === 1 ? { role: 'master' } : { role: 'unknown' };
  };
  t.deepEqual(await fixture.get(), { code: RetCode.NO_MASTER, redirect: null });
  t.is(fixture.machine.queue(0)?.cursors.of(1).next, 0);
});

test('what does not belong here is refused', async (t) => {
  const fixture = new Fixture();
  const cases: [Init<GetRequest>, number][] = [
    [{ topic_id: 1 }, RetCode.RANGE_TOPIC],
    [{ store_id: 9 }, RetCode.RANGE_STORE],
    [{ queue_id: 10 }, RetCode.RANGE_PUB],
    [{ consumer_group_id: 0 }, RetCode.GET_ADJUST_CURSOR_ID_FAIL],
    [{ consumer_group_id: -3 }, RetCode.GET_ADJUST_CURSOR_ID_FAIL],
    [{ consumer_group_id: 65 }, RetCode.GET_ADJUST_CURSOR_ID_FAIL],
  ];
  for (const [changes, code] of cases) t.deepEqual(await fixture.get(changes), { code, redirect: null });
  fixture.log.role = () => ({ role: 'follower', master: 3 });
  t.like(await fixture.get(), { code: RetCode.NOT_MASTER, redirect: { port: 5300 } });
});

test('a restarted replica has the same items under the same cursors', async (t) => {
  const fixture = new Fixture();
  await Promise.all([fixture.add('a', 'b'), fixture.add('c'), fixture.add('d')]);
  const machine = new StoreStateMachine(1);
  fixture.log.replay(machine);
  t.deepEqual(machine.queue(0)?.index.after(0, 10, 1_000_000), fixture.machine.queue(0)?.index.after(0, 10, 1_000_000));
  t.is(machine.lastCursor(0), 4);
});
