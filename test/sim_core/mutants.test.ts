/** Does the simulator bite? Each mutant of the core must be found. That they still apply is checked in every run. */
import { testMutants } from '../support/mutants.js';
import { MUTANTS } from './mutants.js';

testMutants('every mutant applies to the core as it is', MUTANTS, {
  folder: 'test/sim_core',
  parts: ['src/ts/paxos/core', 'src/ts/errors.js', 'test/sim/random.js'],
  seeds_max: 2_000,
});
