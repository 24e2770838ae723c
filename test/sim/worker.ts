/** A child process of a campaign: simulates the seeds that it is sent, one after the other. */
import { Simulation, type SimulationResult } from './simulation.js';

export interface Job {
  readonly seed: number;
  readonly faults_ms: number;
}

export type Report =
  | { readonly seed: number; readonly failure: string }
  | {
      readonly seed: number;
      readonly failure: null;
      readonly result: Omit<SimulationResult, 'reached'>;
      readonly reached: readonly (readonly [string, number])[];
    };

process.on('message', (job: Job) => {
  void simulate(job).then((report) => process.send?.(report));
});

async function simulate({ seed, faults_ms }: Job): Promise<Report> {
  try {
    const { reached, ...result } = await new Simulation({ seed, faults_ms }).run();
    return { seed, failure: null, result, reached: [...reached] };
  } catch (error) {
    return { seed, failure: describe(error) };
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
