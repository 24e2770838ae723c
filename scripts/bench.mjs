// `npm run bench -- NAME [options]`: builds and runs bench/NAME.ts; without a name lists what there is.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from './build.mjs';
import { install } from './install.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const names = readdirSync(new URL('../bench', import.meta.url))
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -'.ts'.length))
  .sort();
const [name, ...args] = process.argv.slice(2);
const usage = `usage: npm run bench -- NAME [options]\nNAME is one of: ${names.join(', ')}; --help after it tells its options`;

if (name === undefined || name === '--help') {
  console.log(usage);
} else if (!names.includes(name)) {
  console.error(`no such benchmark: ${name}\n${usage}`);
  process.exitCode = 1;
} else {
  install(root);
  await build();
  const { status } = spawnSync(process.execPath, [`dist/bench/${name}.js`, ...args], { cwd: root, stdio: 'inherit' });
  process.exitCode = status ?? 1;
}
