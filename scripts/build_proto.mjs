// Makes src/ts/protocol/generated/phxqueue.{js,d.ts}, the static code behind protocol/messages.ts, from proto/.
import { mkdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pbjs from 'protobufjs-cli/pbjs.js';
import pbts from 'protobufjs-cli/pbts.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const proto_folder = join(root, 'proto');
const sources = ['store', 'scheduler', 'lock'].map((service) => join(proto_folder, 'rpc', `${service}.proto`));
const target_folder = join(root, 'src/ts/protocol/generated');
const target = join(target_folder, 'phxqueue.js');
const target_types = join(target_folder, 'phxqueue.d.ts');

const pbjs_options = [
  ...['--target', 'static-module', '--wrap', 'esm', '--path', proto_folder, '--keep-case', '--force-long'],
  ...['--no-create', '--no-verify', '--no-convert', '--no-delimited', '--no-typeurl', '--no-service'],
];

/** Generates the code if it is missing or older than what it is made from. Says whether it did. */
export async function buildProto() {
  const inputs = [...sources, join(proto_folder, 'comm.proto'), fileURLToPath(import.meta.url)];
  const changed_ms = Math.max(...(await Promise.all(inputs.map(changedAt))));
  const made_ms = Math.min(await changedAt(target), await changedAt(target_types));
  if (made_ms > changed_ms) return false;
  await mkdir(target_folder, { recursive: true });
  // Written aside and renamed: a build that runs at the same time never sees half a file.
  const draft = join(target_folder, `draft.${process.pid}.js`);
  const draft_types = join(target_folder, `draft.${process.pid}.d.ts`);
  await promisify(pbjs.main)([...pbjs_options, '--out', draft, ...sources]);
  await promisify(pbts.main)(['--out', draft_types, draft]);
  await rename(draft, target);
  await rename(draft_types, target_types);
  return true;
}

async function changedAt(path) {
  return (await stat(path).catch(() => null))?.mtimeMs ?? 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildProto();
