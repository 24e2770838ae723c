// Goal: the addon and TypeScript judge every body alike. Method: valid and damaged requests through both.
import test from 'ava';
import fc from 'fast-check';
import { PhxError } from '../../src/ts/errors.js';
import { type AddCheck, type AddChecker, checkAddPortably, nativeAddChecker } from '../../src/ts/store/add_check.js';
import { nativeAvailable } from '../../src/ts/wal/open.js';
import { capturedExchanges } from '../fixtures/wire.js';
import { damaged, request_bytes } from '../protocol/arbitrary_adds.js';
import { addBody, TOPIC_ID, testItem } from './requests.js';

const native = nativeAddChecker();
if (native === null) console.log(`tests of the native check are skipped: ${nativeAvailable().reason}`);
const checkers: [string, AddChecker][] = [
  ['portable', checkAddPortably],
  ...(native === null ? [] : [['native', native] satisfies [string, AddChecker]]),
];

function verdict(check: AddChecker, body: Uint8Array): AddCheck | 'malformed' {
  try {
    const found = check(body, TOPIC_ID);
    return found.malformed_at === null ? found : { ...found, strangers: 0 };
  } catch (error) {
    if (error instanceof PhxError && error.code === 'PROTOBUF_PARSE') return 'malformed';
    throw error;
  }
}

for (const [name, check] of checkers) {
  test(`${name}: items are counted, strangers told apart`, (t) => {
    const stranger = testItem('c', { meta: { topic_id: TOPIC_ID + 1 } });
    const body = addBody(3, [testItem('a'), testItem('b'), stranger, testItem('d', { meta: undefined })]);
    t.like(check(body, TOPIC_ID), { topic_id: TOPIC_ID, queue_id: 3, items: 4, strangers: 2, malformed_at: null });
    t.like(check(body, TOPIC_ID + 1), { items: 4, strangers: 3 });
  });

  test(`${name}: a malformed item is told by its place, a malformed envelope is thrown`, (t) => {
    const body = Buffer.concat([addBody(0, [testItem('a')]), Buffer.from([0x92, 0x03, 1, 0xff])]);
    t.like(check(body, TOPIC_ID), { items: 2, malformed_at: body.length - 1 });
    t.throws(() => check(body.subarray(0, body.length - 1), TOPIC_ID), { code: 'PROTOBUF_PARSE' });
  });

  test(`${name}: the captured Adds of C++ producers are sound`, (t) => {
    const adds = capturedExchanges().filter(({ uri, result }) => uri.endsWith('/Add') && result === 0);
    t.true(adds.length > 0);
    for (const { request_body } of adds) {
      t.like(check(request_body, 1000), { topic_id: 1000, strangers: 0, malformed_at: null });
    }
  });
}

if (native !== null) {
  test('both judge valid and damaged requests alike', (t) => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof(request_bytes, damaged(request_bytes)), (body) => {
        const portable = verdict(checkAddPortably, body);
        if (portable !== 'malformed') accepted += 1;
        t.deepEqual(verdict(native, body), portable);
      }),
      { numRuns: 5000 },
    );
    t.true(accepted > 500, `${accepted} accepted`);
  });
}
