/** The program test_producer_echo_main: enqueues one item that consumers print. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { PhxError } from '../errors.js';
import { EnqueueError } from '../producer/enqueue_error.js';
import { Producer } from '../producer/producer.js';
import { retCodeName } from '../protocol/ret_code.js';
import { GLOBAL_CONFIG_PATH } from './defaults.js';

const USAGE = `test_producer_echo_main: enqueues ten random characters; a consumer prints them

usage: test_producer_echo_main [-f FILE]

  -f, --config FILE   global configuration (default ${GLOBAL_CONFIG_PATH})
  --help              this text
`;

const ECHO_HANDLE_ID = 2;
const PUB_ID = 1;
const ALPHANUMERICS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const CHARACTERS = 10;

/** Runs the program with its command-line arguments; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  let producer: Producer | undefined;
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', short: 'f', default: GLOBAL_CONFIG_PATH },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      return;
    }
    producer = new Producer({ global_config_path: values.config });
    await echo(producer);
  } catch (error) {
    const text = error instanceof PhxError || error instanceof TypeError ? error.message : String(error);
    process.stderr.write(`test_producer_echo_main: ${text}\n`);
    process.exitCode = 1;
  } finally {
    await producer?.close();
  }
}

async function echo(producer: Producer): Promise<void> {
  const text = Array.from({ length: CHARACTERS }, () => ALPHANUMERICS.charAt(randomInt(ALPHANUMERICS.length))).join('');
  try {
    await producer.enqueue({ pub_id: PUB_ID, handle_id: ECHO_HANDLE_ID, buffer: text });
    process.stdout.write(`produce echo "${text}" succeeded!\n`);
  } catch (error) {
    if (!(error instanceof EnqueueError)) throw error;
    process.stdout.write(`produce echo "${text}" failed return ${error.ret}!\n`);
    process.stderr.write(`${retCodeName(error.ret)}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
