import { readFileSync } from 'node:fs';
import test from 'ava';
import protobuf from 'protobufjs';
import type { Field } from '../../src/ts/config/fields.js';
import type { Place } from '../../src/ts/config/report.js';
import {
  consumer_config,
  global_config,
  lock_config,
  scheduler_config,
  store_config,
  topic_config,
} from '../../src/ts/config/schema.js';

const files: readonly [string, string, Field<unknown>][] = [
  ['globalconfig', 'GlobalConfig', global_config],
  ['topicconfig', 'TopicConfig', topic_config],
  ['storeconfig', 'StoreConfig', store_config],
  ['consumerconfig', 'ConsumerConfig', consumer_config],
  ['schedulerconfig', 'SchedulerConfig', scheduler_config],
  ['lockconfig', 'LockConfig', lock_config],
];

/** Defaults that are ours; schema.ts says why. */
const own_defaults = new Set([
  'Topic.store_paxos_master_lease',
  'Topic.lock_paxos_master_lease',
  'QueueInfo.sleep_us_on_get_fail',
  'Store.scale',
  'Consumer.scale',
  'Lock.scale',
]);

function protoRoot(name: string): protobuf.Root {
  const root = new protobuf.Root();
  for (const path of ['proto/comm.proto', `proto/config/${name}.proto`]) {
    protobuf.parse(readFileSync(path, 'utf8'), root, { keepCase: true });
  }
  root.resolveAll();
  return root;
}

const complaints: string[] = [];
const note = ({ key }: Place, what: string): void => void complaints.push(`${key}: ${what}`);
const report = { error: note, oversight: note, warning: note };

for (const [name, message, schema] of files) {
  test(`${name}.proto and the schema have the same keys, types and defaults`, (t) => {
    compare(protoRoot(name).lookupType(message), '', schema);

    /** Gives every key of `type`, which stands at `path` of the file, by itself. */
    function compare(type: protobuf.Type, path: string, root_schema: Field<unknown>): void {
      for (const field of type.fieldsArray) {
        const key = path === '' ? field.name : `${path}.${field.name}`;
        const inner = field.resolvedType;
        if (inner instanceof protobuf.Type) {
          compare(inner, field.repeated ? `${key}[0]` : key, root_schema);
          continue;
        }
        const number = field.name.endsWith('_master_lease') ? 500 : 1;
        const sample = field.type === 'string' ? '127.0.0.1' : String(number);
        const read = readAt(root_schema, key, field.repeated ? [sample] : sample);
        t.deepEqual(read.unknown, [], `${key} is known`);
        const expected = field.type === 'string' ? sample : typeof read.value === 'bigint' ? 1n : number;
        t.deepEqual(read.value, field.repeated ? [expected] : expected, key);
        if (own_defaults.has(`${type.name}.${field.name}`)) continue;
        const absent = readAt(root_schema, key, undefined).value;
        const fallback = field.repeated ? [] : field.typeDefault;
        if (typeof absent === 'bigint') t.is(absent, BigInt(String(fallback)), `default of ${key}`);
        else t.deepEqual(absent, fallback, `default of ${key}`);
      }
    }
  });
}

/** Reads a file in which only `key` is given, and returns what became of it. */
function readAt(schema: Field<unknown>, key: string, value: unknown) {
  const steps = key.split('.').flatMap((step) => (step.endsWith('[0]') ? [step.slice(0, -3), 0] : [step]));
  let file: unknown = value;
  for (const step of [...steps].reverse()) file = step === 0 ? [file] : { [step]: file };
  complaints.length = 0;
  let found: unknown = schema.read(file, { file: '', key: '', report });
  for (const step of steps) found = at(found, step);
  const unknown = complaints.filter((line) => line.startsWith(`${key}:`) && line.includes('unknown'));
  return { value: found, unknown };
}

function at(value: unknown, step: string | number): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === String(step))?.[1];
}
