/** A process that is measured: does what its parent asks, one command after the other. */
import { assert } from '../../src/ts/errors.js';
import { type Command, type Figures, isCommand } from './command.js';
import { DiskLimit } from './disk_limit.js';
import { LogUnderTest } from './subject.js';

let log: LogUnderTest | null = null;
let limit: DiskLimit | null = null;

process.on('message', (message) => {
  assert(isCommand(message), 'the parent sends commands');
  perform(message).then(
    (figures) => process.send?.({ figures }),
    (error: unknown) => process.send?.({ failure: error instanceof Error ? error.stack : String(error) }),
  );
});

async function perform(command: Command): Promise<Figures> {
  switch (command.task) {
    case 'open': {
      const { task, subject, ...options } = command;
      if (subject === 'limit') {
        limit = new DiskLimit(options.folder, options.segment_bytes);
        return {};
      }
      const [opened, figures] = await LogUnderTest.open({ ...options, subject });
      log = opened;
      return figures;
    }
    case 'prime':
      await theLog().prime();
      return {};
    case 'appends':
      return theLog().appends(command.bytes, command.outstanding, command.seconds);
    case 'limit':
      assert(limit !== null, 'the file is open');
      return limit.measure(command.batch_bytes, command.seconds);
    case 'add':
      return theLog().add(command.items, command.bytes, command.seconds);
    case 'parse':
      return theLog().parse(command.items, command.bytes, command.seconds);
    case 'fill':
      await theLog().fill(command.records, command.bytes);
      return {};
    case 'ranges':
      return theLog().ranges(command.records, command.entries, command.seconds);
    case 'memory':
      return theLog().memory();
    case 'close':
      await log?.close();
      limit?.close();
      log = null;
      limit = null;
      return {};
  }
}

function theLog(): LogUnderTest {
  assert(log !== null, 'a log is open');
  return log;
}
