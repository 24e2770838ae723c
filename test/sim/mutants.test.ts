/** Does the simulator bite? Each mutant must be found. That they still apply is checked in every run. */
import { testMutants } from '../support/mutants.js';
import { MUTANTS } from './mutants.js';

testMutants('every mutant applies to the program as it is', MUTANTS, {
  folder: 'test/sim',
  parts: ['src/ts/paxos', 'src/ts/wal', 'src/ts/store', 'src/ts/protocol', 'src/ts/errors.js', 'test/wal'],
  seeds_max: 200,
});
