// `npm run demo [-- --keep]`: installs, builds and runs the demonstration.
import { fileURLToPath } from 'node:url';
import { build } from './build.mjs';
import { install } from './install.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
install(process.cwd());
await build();
const { main } = await import('../dist/src/ts/cli/demo.js');
await main(process.argv.slice(2));
