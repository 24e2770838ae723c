import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { encode } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { type AddDependencies, addItems } from '../../src/ts/store/add.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { MemoryLog } from './memory_log.js';
import { addBody, STORE_ID, TOPIC_ID, test_add_settings, test_replicas, testItem, testView } from './requests.js';

function setUp(view = testView()): { log: MemoryLog; machine: StoreStateMachine; dependencies: AddDependencies } {
  const machine = new StoreStateMachine(2);
  const log = new MemoryLog(machine, 2, test_replicas);
  return { log, machine, dependencies: { view, log, ...test_add_settings, now_ms: () => 1_700_000_000_000 } };
}

test('the items of one Add get consecutive cursors, the reply has the first', async (t) => {
  const { machine, dependencies } = setUp();
  const three = addBody(
    0,
    ['a', 'b', 'c'].map((text) => testItem(text)),
  );
  const added = await addItems(three, dependencies);
  t.like(added, { code: RetCode.OK, first_cursor: 1, queue_id: 0, items: 3 });
  t.like(await addItems(addBody(0, [testItem('d')]), dependencies), { first_cursor: 4 });
  t.deepEqual(
    machine
      .queue(0)
      ?.index.after(0, 10, 1_000_000)
      .map((entry) => entry.cursor),
    [1, 2, 3, 4],
  );
  t.is(machine.queue(0)?.added_items, 4);
});

test('queues of one Paxos group share the counter, other groups have their own', async (t) => {
  const { dependencies } = setUp();
  const first = async (queue_id: number): Promise<unknown> =>
    addItems(addBody(queue_id, [testItem('x')]), dependencies);
  t.like(await first(0), { first_cursor: 1 });
  t.like(await first(2), { first_cursor: 2 });
  t.like(await first(1), { first_cursor: 1 });
});

test('an Add without items is fine and proposes nothing, even for an unknown topic', async (t) => {
  const { log, dependencies } = setUp();
  const added = await addItems(addBody(0, [], 4711), dependencies);
  t.deepEqual(added, { code: RetCode.OK, first_cursor: null, queue_id: 0, items: 0, item_bytes: 0 });
  t.is(log.proposals, 0);
});

test('while the disk is full an Add is refused and proposes nothing', async (t) => {
  const { log, dependencies } = setUp();
  let full = true;
  const filling = { ...dependencies, hasSpace: () => !full };
  const body = addBody(0, [testItem('x')]);
  t.deepEqual(await addItems(body, filling), { code: RetCode.PROPOSE_FAST_REJECT, redirect: null });
  t.is(log.proposals, 0);
  full = false;
  t.like(await addItems(body, filling), { code: RetCode.OK, first_cursor: 1 });
});

test('what does not belong here is refused and proposes nothing', async (t) => {
  const { log, dependencies } = setUp();
  const codeOf = async (body: Uint8Array): Promise<number> => (await addItems(body, dependencies)).code;
  t.is(await codeOf(addBody(0, [testItem('x')], TOPIC_ID + 1)), RetCode.RANGE_TOPIC);
  const stranger = testItem('x', { meta: { topic_id: TOPIC_ID + 1 } });
  t.is(await codeOf(addBody(0, [testItem('x'), stranger])), RetCode.RANGE_TOPIC);
  t.is(await codeOf(addBody(0, [testItem('x', { meta: undefined })])), RetCode.RANGE_TOPIC);
  const other_store = { topic_id: TOPIC_ID, store_id: STORE_ID + 1, queue_id: 0, items: [testItem('x')] };
  t.is(await codeOf(encode('AddRequest', other_store)), RetCode.RANGE_STORE);
  t.is(await codeOf(addBody(10, [testItem('x')])), RetCode.RANGE_PUB);
  t.is(await codeOf(addBody(-1, [testItem('x')])), RetCode.RANGE_PUB);
  t.is(log.proposals, 0);
});

test('a store that left the configuration refuses everything', async (t) => {
  const { dependencies } = setUp(testView({ store_id: null }));
  t.is((await addItems(addBody(0, [testItem('x')]), dependencies)).code, RetCode.RANGE_ADDR);
});

test('items may take exactly the limit, not a byte more', async (t) => {
  const body = addBody(0, [testItem('1234'), testItem('5678')]);
  const added = await addItems(body, setUp().dependencies);
  t.is(added.code, RetCode.OK);
  const bytes = 'item_bytes' in added ? added.item_bytes : 0;
  const within = setUp(testView({ items_byte_size_limit: bytes }));
  t.is((await addItems(body, within.dependencies)).code, RetCode.OK);
  const above = setUp(testView({ items_byte_size_limit: bytes - 1 }));
  t.is((await addItems(body, above.dependencies)).code, RetCode.SIZE_TOO_LARGE);
  t.is(above.log.proposals, 0);
});

test('an Add has a limit on the number of its items', async (t) => {
  const body = addBody(0, [testItem('a'), testItem('b'), testItem('c')]);
  t.is((await addItems(body, setUp(testView({ items_max: 3 })).dependencies)).code, RetCode.OK);
  const above = setUp(testView({ items_max: 2 }));
  t.is((await addItems(body, above.dependencies)).code, RetCode.SIZE_TOO_LARGE);
  t.is(above.log.proposals, 0);
});

test('a malformed request or item is rejected before anything is proposed', async (t) => {
  const { log, dependencies } = setUp();
  const broken_item = addBody(0, [testItem('abc')]);
  // The last byte belongs to the item's meta: with a continuation bit it is no varint any more.
  broken_item[broken_item.length - 1] = 0xff;
  for (const body of [broken_item, Buffer.from('ffff', 'hex'), addBody(0, [testItem('abc')]).subarray(0, -1)]) {
    await t.throwsAsync(addItems(body, dependencies), { instanceOf: PhxError, code: 'PROTOBUF_PARSE' });
  }
  t.is(log.proposals, 0);
});

test('without mastership the answer says where to go', async (t) => {
  const { log, dependencies } = setUp();
  const body = addBody(0, [testItem('x')]);
  log.role = () => ({ role: 'follower', master: 2 });
  t.deepEqual(await addItems(body, dependencies), {
    code: RetCode.NOT_MASTER,
    redirect: { ip: '127.0.0.1', port: 5200, paxos_port: 5201 },
  });
  log.role = () => ({ role: 'unknown' });
  t.deepEqual(await addItems(body, dependencies), { code: RetCode.NO_MASTER, redirect: null });
  log.role = () => ({ role: 'follower', master: 4 });
  t.deepEqual(await addItems(body, dependencies), { code: RetCode.RANGE_ADDR, redirect: null });
  t.is(log.proposals, 0);
});

test('failures of a proposal have their codes', async (t) => {
  const { log, dependencies } = setUp();
  const expected = {
    PROPOSE_TIMEOUT: RetCode.PROPOSE_TIMEOUT,
    PROPOSE_FAST_REJECT: RetCode.PROPOSE_FAST_REJECT,
    SIZE_TOO_LARGE: RetCode.SIZE_TOO_LARGE,
    CLOSED: RetCode.PROPOSE,
    // This replica leads again by the time the answer is made.
    NOT_MASTER: RetCode.NO_MASTER,
  } as const;
  for (const [code, result] of Object.entries(expected)) {
    log.failure = new PhxError(code as keyof typeof expected, 'as told');
    t.is((await addItems(addBody(0, [testItem('x')]), dependencies)).code, result, code);
  }
});

test('mastership lost between the check and the proposal redirects to the new master', async (t) => {
  const { log, dependencies } = setUp();
  let calls = 0;
  log.role = () => {
    calls += 1;
    return calls === 1 ? { role: 'master' } : { role: 'follower', master: 3 };
  };
  log.failure = new PhxError('NOT_MASTER', 'lost');
  t.like(await addItems(addBody(0, [testItem('x')]), dependencies), {
    code: RetCode.NOT_MASTER,
    redirect: { ip: '127.0.0.1', port: 5300 },
  });
});
