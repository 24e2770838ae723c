/** What a run is asked for, and what comes of it. */
export interface SimulationOptions {
  readonly seed: number;
  /** Length of the phase with faults. */
  readonly faults_ms: number;
  readonly trace?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly trace_hash: string;
  readonly events: number;
  readonly proposed: number;
  readonly acknowledged: number;
  readonly reads: number;
  readonly reached: ReadonlyMap<string, number>;
}
