/** What the scenarios have in common. */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Script } from './script.js';

const REWRITE = process.env['PHXQUEUE_REWRITE'] === '1';

/** Compares with the text that is kept, or writes it anew. */
export function compare(t: ExecutionContext, name: string, script: Script): void {
  const path = resolve('test/paxos/traces', `${name}.txt`);
  if (REWRITE) writeFileSync(path, script.text);
  t.deepEqual(script.text.split('\n'), readFileSync(path, 'utf8').split('\n'));
}

/** Replica 1 leads: the others stay silent until it is elected. */
export function led(): Script {
  const script = new Script();
  script.lose(({ from, message }) => from !== 1 && message.type === 'pre_vote');
  script.pass(120);
  script.heal();
  return script;
}
