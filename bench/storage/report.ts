/** What goes to the terminal: tables, targets, and on stderr how far the run is. */

/** One goal of the project, and whether this run reached it. */
export interface Target {
  readonly name: string;
  /** Null where it could not be measured. */
  readonly met: boolean | null;
  /** The value that is farthest from the goal. */
  readonly worst: number | null;
  readonly detail: string;
}

/** A value and the measurement that it stands for, such as `128 B x 16`. */
export interface Placed {
  readonly where: string;
  readonly value: number;
}

/** Met if all values are at least `bound`. */
export function atLeast(name: string, bound: number, values: readonly Placed[], digits = 2): Target {
  return judge(name, values, (value) => value >= bound, -1, digits);
}

/** Met if no value is above `bound`. */
export function atMost(name: string, bound: number, values: readonly Placed[], digits = 2): Target {
  return judge(name, values, (value) => value <= bound, 1, digits);
}

function judge(
  name: string,
  values: readonly Placed[],
  isMet: (value: number) => boolean,
  direction: 1 | -1,
  digits: number,
): Target {
  const [first, ...others] = values;
  if (first === undefined) return { name, met: null, worst: null, detail: 'not measured in this run' };
  const worst = others.reduce((one, other) => (direction * (other.value - one.value) > 0 ? other : one), first);
  const reached = values.filter(({ value }) => isMet(value)).length;
  const share = values.length === 1 ? '' : `; ${reached} of ${values.length} met`;
  const detail = `${worst.value.toFixed(digits)} at ${worst.where}${share}`;
  return { name, met: reached === values.length, worst: worst.value, detail };
}

export function printHeading(text: string): void {
  endProgress();
  console.log(`\n${text}\n`);
}

export function printTarget({ name, met, detail }: Target): void {
  const verdict = met === null ? 'unknown' : met ? 'met' : 'not met';
  console.log(`target ${name}: ${verdict} (${detail})`);
}

/** Prints columns of texts, the first to the left and the others to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [head, ...rows]) {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    console.log(cells.join('  ').trimEnd());
  }
}

export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else process.stderr.write(`${text}\n`);
}

export function endProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
}

/** 1234567.8 as 1,234,568. */
export function whole(value: number): string {
  return Number.isNaN(value) ? '-' : Math.round(value).toLocaleString('en-US');
}

/** With so many digits behind the point; a dash for what was not measured. */
export function fixed(value: number | undefined, digits: number): string {
  return value === undefined || Number.isNaN(value) ? '-' : value.toFixed(digits);
}
