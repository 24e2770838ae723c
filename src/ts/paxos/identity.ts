/**
 * Who a data folder belongs to. Written once, when the folder is first used; a server whose configuration says otherwise
 * refuses to start instead of mixing the votes of two replicas.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { PhxError } from '../errors.js';

export interface Identity {
  /** Name of the replica set, e.g. `test/store/1`. */
  readonly cluster: string;
  /** 1-based position of this replica in the configuration. */
  readonly replica: number;
  /** Number of Paxos groups; never changes in the life of a cluster. */
  readonly groups: number;
}

const FILE = 'identity.json';
const FORMAT = 1;

/** Makes the folder if needed, and records or checks its identity. Throws CONFIG on a mismatch. */
export async function claimFolder(folder: string, identity: Identity): Promise<void> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, FILE);
  const found = await readIdentity(path);
  if (found === null) {
    await writeDurably(folder, path, `${JSON.stringify({ format: FORMAT, ...identity })}\n`);
    return;
  }
  for (const key of ['cluster', 'replica', 'groups'] as const) {
    if (found[key] === identity[key]) continue;
    const message =
      `${path}: the folder belongs to ${key} ${JSON.stringify(found[key])}, the configuration says ` +
      `${JSON.stringify(identity[key])}; point DataDirPath to the right folder, or use an empty one for a new cluster`;
    throw new PhxError('CONFIG', message);
  }
}

/** The 16 bytes by which log segments know their replica. */
export function logIdentity(identity: Identity): Uint8Array {
  const text = `${identity.cluster}\n${identity.replica}\n${identity.groups}`;
  return createHash('sha256').update(text).digest().subarray(0, 16);
}

async function readIdentity(path: string): Promise<Identity | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw new PhxError('CONFIG', `${path}: cannot be read`, { cause: error });
  }
  const parsed = parse(path, text);
  if (
    typeof parsed === 'object' &&
    parsed !== null &&
    'cluster' in parsed &&
    'replica' in parsed &&
    'groups' in parsed
  ) {
    const { cluster, replica, groups } = parsed;
    if (typeof cluster === 'string' && typeof replica === 'number' && typeof groups === 'number') {
      return { cluster, replica, groups };
    }
  }
  throw new PhxError('CONFIG', `${path}: not an identity file; restore it from a backup of this folder`);
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new PhxError('CONFIG', `${path}: not valid JSON; restore it from a backup of this folder`, { cause: error });
  }
}

async function writeDurably(folder: string, path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
