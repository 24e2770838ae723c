// Runs a compiled program; the files beside this one give it the names under which people start it.
import { existsSync } from 'node:fs';

/** Calls `main` of a module under dist/src/ts/ with the command-line arguments. */
export async function launch(module) {
  const program = new URL(`../dist/src/ts/${module}`, import.meta.url);
  if (!existsSync(program)) {
    console.error('PhxQueue is not built yet; run: npm ci && npm run build');
    process.exitCode = 1;
    return;
  }
  const { main } = await import(program.href);
  await main(process.argv.slice(2));
}
