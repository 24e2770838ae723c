import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';

const page = readFileSync('docs/configuration.md', 'utf8');

test('every key of the proto files is documented', (t) => {
  for (const name of readdirSync('proto/config')) {
    const proto = readFileSync(`proto/config/${name}`, 'utf8');
    const keys = [...proto.matchAll(/^ {2}(?:optional|repeated) \S+ (\w+) =/gm)].map(([, key]) => key);
    t.true(keys.length > 0, name);
    for (const key of keys) t.true(page.includes(`\`${key}\``), `${key} of ${name}`);
  }
});

test('every key of the sample .conf files is documented', (t) => {
  for (const name of readdirSync('etc').filter((file) => /^(store|lock|scheduler)_server/.test(file))) {
    const keys = [...readFileSync(`etc/${name}`, 'utf8').matchAll(/^(?:# )?(\w+) = /gm)].map(([, key]) => key);
    t.true(keys.length > 5, name);
    for (const key of keys) t.true(page.includes(`\`${key}\``), `${key} of ${name}`);
  }
});
