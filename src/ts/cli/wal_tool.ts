/** `wal_tool`: looks into the log of a store. docs/operations.md shows how. */
import { PhxError } from '../errors.js';
import { parseCommand, UsageError } from './wal_tool/arguments.js';
import { dump } from './wal_tool/dump.js';
import { inspect } from './wal_tool/inspect.js';
import { heldNote, LogFolder } from './wal_tool/log_folder.js';
import { Output } from './wal_tool/output.js';
import { Progress } from './wal_tool/progress.js';
import { repair } from './wal_tool/repair.js';
import { goneNote } from './wal_tool/survey.js';
import { verify } from './wal_tool/verify.js';

const STATUS = { fine: 0, problems: 1, failed: 2 } as const;

/** The program: returns its exit status. */
async function walTool(args: readonly string[], output: Output, progress: Progress): Promise<number> {
  const command = parseCommand(args);
  switch (command.name) {
    case 'help':
      await output.put(command.text);
      return STATUS.fine;
    case 'inspect':
      await inspect(await LogFolder.open(command.folder), command.json, output, progress);
      return STATUS.fine;
    case 'verify': {
      const problems = await verify(await LogFolder.open(command.folder), command.json, output, progress);
      return problems === 0 ? STATUS.fine : STATUS.problems;
    }
    case 'dump': {
      const folder = await LogFolder.open(command.folder);
      if (folder.holder !== null) console.error(`note: ${heldNote(folder)}`);
      const gone = await dump(folder, command.options, output);
      for (const id of gone) console.error(`note: ${goneNote(id)}`);
      return STATUS.fine;
    }
    case 'repair': {
      const left = await repair(command.folder, command.write, output, progress);
      return left === 0 ? STATUS.fine : STATUS.problems;
    }
  }
}

/** What to tell about an error that is no defect of this program, or null. */
function messageOf(error: unknown): string | null {
  if (error instanceof UsageError) return error.message;
  if (error instanceof PhxError) {
    const advice = error.code === 'LOG_LOCKED' ? ': stop it first' : error.code === 'LOG_FORMAT' ? NEWER : '';
    return `${error.message}${advice}`;
  }
  if (!(error instanceof Error) || !('syscall' in error)) return null;
  const denied = 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM');
  return `${error.message}${denied ? ': run it as the user of the store' : ''}`;
}

const NEWER = '; use the wal_tool of the release that wrote it';

/** Runs the program with the arguments of the command line, and leaves its exit status. */
export async function main(args: readonly string[]): Promise<void> {
  const output = new Output(process.stdout);
  const progress = new Progress(process.stderr);
  try {
    process.exitCode = await walTool(args, output, progress);
    await output.flush();
  } catch (error) {
    progress.end();
    const message = messageOf(error);
    if (message === null) throw error;
    await output.flush();
    console.error(`wal_tool: ${message}`);
    process.exitCode = STATUS.failed;
  }
}
