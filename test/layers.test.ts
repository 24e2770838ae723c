import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import test from 'ava';

const SOURCE = resolve('src/ts');

/** Which folders a folder may import from, besides itself and errors.ts. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  config: ['protocol'],
  wal: [],
  'paxos/core': [],
  paxos: ['paxos/core', 'wal'],
  ops: [],
  rpc: ['protocol'],
  store: ['protocol', 'config', 'wal', 'paxos/core', 'paxos', 'rpc', 'ops'],
  producer: ['protocol', 'config', 'rpc'],
  consumer: ['protocol', 'config', 'rpc', 'producer', 'ops'],
  cli: ['protocol', 'config', 'wal', 'paxos/core', 'paxos', 'rpc', 'ops', 'producer', 'consumer', 'store'],
};

/** What would make the protocol core depend on more than its inputs. */
const IMPURE =
  /\b(?:Date|Math\.random|performance|process|set(?:Timeout|Interval|Immediate)|queueMicrotask|Promise|async|await)\b/;

interface Source {
  /** Relative to src/ts. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function sources(): Source[] {
  return readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.includes('generated'))
    .map((path) => {
      const text = readFileSync(join(SOURCE, path), 'utf8');
      const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, name]) => name ?? '');
      return { path, text, imports };
    });
}

function folderOf(path: string): string {
  if (path.startsWith('paxos/core/')) return 'paxos/core';
  return path.includes('/') ? (path.split('/')[0] ?? '') : '';
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '');
}

test('imports point downward only', (t) => {
  const all = sources();
  t.true(all.length > 50, 'the sources were found');
  const wrong: string[] = [];
  for (const { path, imports } of all) {
    const folder = folderOf(path);
    if (folder === '') continue;
    const allowed = ALLOWED[folder];
    t.truthy(allowed, `${folder} has a place in the layers`);
    for (const name of imports.filter((candidate) => candidate.startsWith('.'))) {
      const target = relative(SOURCE, resolve(SOURCE, dirname(path), name));
      const targetFolder = folderOf(target);
      const fine = target === 'errors.js' || targetFolder === folder || allowed?.includes(targetFolder) === true;
      if (!fine) wrong.push(`${path} imports ${target}`);
    }
  }
  t.deepEqual(wrong, []);
});

/** Step machines outside of the core. */
const PURE: readonly string[] = ['paxos/formation.ts', 'paxos/peer_memory.ts', 'paxos/report.ts'];

test('the protocol core has no packages, clock, randomness or promises', (t) => {
  const core = sources().filter(({ path }) => folderOf(path) === 'paxos/core' || PURE.includes(path));
  t.true(core.length > 5, 'the core was found');
  for (const { path, text, imports } of core) {
    t.deepEqual(
      imports.filter((name) => !name.startsWith('.')),
      [],
      path,
    );
    t.is(IMPURE.exec(withoutComments(text)), null, path);
  }
});
