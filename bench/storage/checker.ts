/** What a store has to know of an Add body before it may go into the log, and how each engine finds it out. */
import { assert } from '../../src/ts/errors.js';
import { type AddChecker, checkAddPortably, nativeAddChecker } from '../../src/ts/store/add_check.js';
import type { EngineName } from './command.js';

/** The check that a store with this engine makes. */
export function checkerOf(engine: EngineName): AddChecker {
  if (engine === 'portable') return checkAddPortably;
  const native = nativeAddChecker();
  assert(native !== null, 'the native engine runs only where its addon is');
  return native;
}
