// `npm run build`: protobuf code, the native log engine where there is Rust, and all TypeScript.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { install } from './install.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Builds everything that is not up to date. Ends the process with a message if the TypeScript does not compile. */
export async function build() {
  const began_ms = performance.now();
  // Loaded only now: they stand on packages, which had to be installed first.
  const { buildProto } = await import('./build_proto.mjs');
  const { buildNative } = await import('./build_native.mjs');
  await buildProto();
  buildNative();
  const compiler = join('node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.json'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error('the TypeScript does not compile; see above');
    process.exit(1);
  }
  console.log(`Built in ${((performance.now() - began_ms) / 1000).toFixed(1)} s.`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  install(root);
  await build();
}
