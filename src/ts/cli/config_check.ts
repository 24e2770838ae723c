/** `config_check_main`: checks a global configuration file and everything that it names. */
import { parseArgs } from 'node:util';
import { checkConfig } from '../config/check.js';

const usage = `Usage: config_check_main -f <global configuration file> [-d]

Checks the file and all files that it names; paths are relative to the working directory. Stricter than the servers are:
an unknown key is an error here.

  -f <path>   the global configuration file, for example etc/globalconfig.conf
  -d          also say what was checked
  --help      print this text

Prints every problem on a line of its own. Exit status: 0 fine (warnings are no failure), 1 something is wrong.
`;

/** The program: returns its exit status. */
export function configCheck(
  args: readonly string[],
  print: (line: string) => void,
  complain: (line: string) => void,
): number {
  const options = parse(args);
  if (typeof options === 'string') {
    complain(`config_check_main: ${options}`);
    complain(usage.trimEnd());
    return 1;
  }
  const { file, details } = options;
  if (file === null) {
    print(usage.trimEnd());
    return 0;
  }
  const { errors, warnings, checked } = checkConfig(file);
  for (const line of warnings) complain(`warning: ${line}`);
  for (const line of errors) complain(line);
  if (details) {
    for (const line of checked) print(line);
    print(errors.length === 0 ? `${file}: fine` : `${file}: ${errors.length} problems`);
  }
  return errors.length === 0 ? 0 : 1;
}

/** What is asked for, or what is wrong with the arguments. `file` null: the usage. */
function parse(args: readonly string[]): { readonly file: string | null; readonly details: boolean } | string {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        file: { type: 'string', short: 'f' },
        details: { type: 'boolean', short: 'd' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (args.length === 0 || values.help === true) return { file: null, details: false };
    if (values.file === undefined) return 'no file is given: add -f <path>';
    return { file: values.file, details: values.details === true };
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Runs the program with the arguments of the command line, and leaves its exit status. */
export function main(args: readonly string[]): void {
  process.exitCode = configCheck(
    args,
    (line) => console.log(line),
    (line) => console.error(line),
  );
}
