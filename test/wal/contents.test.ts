// Goal: what a log says of its dead and sparse segments at each commit costs nothing, however many segments there are, and is
// what a walk through all of them would say. Method: random changes, each compared with that walk, whose steps are counted.
import test from 'ava';
import { LogContents, type Segment } from '../../src/ts/wal/contents.js';
import { RecordKind } from '../../src/ts/wal/engine.js';
import { RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES } from '../../src/ts/wal/format.js';
import { OpenFiles } from '../../src/ts/wal/segment_file.js';
import { Random } from '../sim/random.js';
import { FailingFiles } from './failing_files.js';

const SEGMENT_BYTES = 8192;
const open_files = new OpenFiles(new FailingFiles());

function addSegment(contents: LogContents, id: number): void {
  const none = (): Promise<never> => Promise.reject(new Error('nothing is read here'));
  const file = { size: none, read: none, write: none, sync: none, close: () => Promise.resolve() };
  contents.addSegment(id, open_files.hold(`${id}`, file), SEGMENT_BYTES);
}

function isDead({ live_records, unreadable }: Segment): boolean {
  return live_records === 0 && unreadable === 0;
}

/** As `sparseBefore`, from the segments alone. */
function sparsest(contents: LogContents, active: number, slack_bytes: number): number | null {
  const sealed = [...contents.segments.values()].filter(({ id }) => id < active);
  const candidates = sealed.filter(({ unreadable, damaged }) => unreadable === 0 && damaged.size === 0);
  const condemned = candidates.find((segment) => segment.condemned);
  if (condemned !== undefined) return condemned.id;
  const size_bytes = sealed.reduce((sum, segment) => sum + segment.size_bytes, 0);
  const live_bytes = sealed.reduce((sum, segment) => sum + segment.live_bytes, 0);
  if (size_bytes <= 2 * live_bytes + slack_bytes) return null;
  const room_bytes = SEGMENT_BYTES - SEGMENT_HEADER_BYTES - RECORD_HEADER_BYTES;
  const worth = candidates.filter((segment) => 2 * segment.live_bytes <= room_bytes);
  return worth.sort((a, b) => a.live_bytes - b.live_bytes || a.id - b.id)[0]?.id ?? null;
}

test('dead and sparse segments are those that a walk through all would find', (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const contents = new LogContents();
    let active = 1;
    addSegment(contents, active);
    let instance = 0;
    for (let step = 0; step < 300; step++) {
      const segments = [...contents.segments.values()];
      const segment = random.pick(segments);
      const dice = random.integer(0, 99);
      if (dice < 12) addSegment(contents, ++active);
      else if (dice < 16) contents.noteUnreadable(segment);
      else if (dice < 18) contents.condemnUnreadable();
      else if (dice < 22) contents.truncate(1, random.integer(0, instance));
      else if (dice < 30) for (const dead of contents.deadBefore(active)) contents.removeSegment(dead);
      else if (dice < 60) {
        const place = { segment: active, offset: 4096 + 8 * step, body_bytes: random.integer(0, 1500) };
        contents.put({ kind: RecordKind.entry, group: 1, instance: ++instance, ...place }, null);
        if (random.chance(0.05)) contents.noteDamaged(contents.segment(active), place.offset);
      } else {
        const place = { segment: active, offset: 4096 + 8 * step, body_bytes: 24 };
        contents.put({ kind: RecordKind.state, group: 1, instance: random.integer(0, 3), ...place }, Buffer.alloc(24));
      }
      const slack_bytes = random.pick([0, SEGMENT_BYTES]);
      const dead = [...contents.segments.values()].filter((each) => each.id < active && isDead(each));
      t.deepEqual(contents.deadBefore(active), dead);
      t.is(contents.sparseBefore(active, slack_bytes)?.id ?? null, sparsest(contents, active, slack_bytes));
    }
  }
});

test('where nothing is dead or sparse no segment is looked at', (t) => {
  const contents = new LogContents();
  for (let id = 1; id <= 2000; id++) {
    addSegment(contents, id);
    contents.put({ kind: RecordKind.entry, group: 1, instance: id, segment: id, offset: 4096, body_bytes: 4056 }, null);
  }
  const values = contents.segments.values.bind(contents.segments);
  let walks = 0;
  contents.segments.values = () => {
    walks++;
    return values();
  };
  t.deepEqual(contents.deadBefore(2000), []);
  t.is(contents.sparseBefore(2000, 0), null);
  t.is(walks, 0);
  contents.truncate(1, 2);
  t.deepEqual(
    contents.deadBefore(2000).map(({ id }) => id),
    [1],
  );
  t.is(walks, 1);
});
