import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';

const LINE_MAX = 140;
const SOURCE_LINES_MAX = 500;
const TEXT = /\.(?:ts|mjs|rs|md|json|toml|proto|conf|sh|yml)$|^bin\/|^\.ci\//;
const UNWRAPPED = /package(?:-lock)?\.json$|Cargo\.lock$|^test\/fixtures\/|\.md$/;
/** Put together here, so that this file does not find itself. */
const UNFINISHED = new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X'].join('|')})\\b`);
const MACHINE_PATH = /\/(?:home|Users|root|work)\/[a-z]/;

interface TrackedFile {
  readonly path: string;
  readonly lines: readonly string[];
}

function trackedFiles(): TrackedFile[] {
  const paths = execFileSync('git', ['ls-files'], { encoding: 'utf8' }).trim().split('\n');
  return paths
    .filter((path) => TEXT.test(path))
    .map((path) => ({ path, lines: readFileSync(path, 'utf8').split('\n') }));
}

function offences(files: readonly TrackedFile[], isOffence: (line: string) => boolean): string[] {
  return files.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) => (isOffence(line) ? [`${path}:${index + 1}`] : [])),
  );
}

const isCheckout = (() => {
  try {
    execFileSync('git', ['rev-parse'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
// A copy without its history cannot say which files belong to the project.
const tidy = isCheckout ? test : test.skip;

tidy('lines are wrapped', (t) => {
  const files = trackedFiles().filter(({ path }) => !UNWRAPPED.test(path));
  t.true(files.length > 50);
  t.deepEqual(
    offences(files, (line) => line.length > LINE_MAX),
    [],
  );
});

tidy('nothing is marked as unfinished, and nothing names a machine', (t) => {
  const files = trackedFiles().filter(({ path }) => !path.startsWith('test/fixtures/'));
  t.deepEqual(
    offences(files, (line) => UNFINISHED.test(line)),
    [],
  );
  t.deepEqual(
    offences(files, (line) => MACHINE_PATH.test(line)),
    [],
  );
});

tidy('source files stay readable in length', (t) => {
  const long = trackedFiles().filter(
    ({ path, lines }) => /^src\/ts\/.*\.ts$/.test(path) && lines.length > SOURCE_LINES_MAX,
  );
  t.deepEqual(
    long.map(({ path }) => path),
    [],
  );
});

tidy('the lock file names no registry', (t) => {
  t.notRegex(readFileSync('package-lock.json', 'utf8'), /"resolved"/);
});
