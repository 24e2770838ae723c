/** `wal_tool verify`: what is wrong with the log. */
import type { LogFolder } from './log_folder.js';
import type { Output } from './output.js';
import type { Progress } from './progress.js';
import { Repairs } from './repairs.js';
import { type Problem, type Survey, survey } from './survey.js';
import { bytesText, counted } from './table.js';

/** Prints each problem, or one JSON document; returns how many there are. */
export async function verify(folder: LogFolder, json: boolean, output: Output, progress: Progress): Promise<number> {
  const repairs = new Repairs();
  const found = await survey(folder, progress, (segment, record) => repairs.put(segment, record));
  const { open, repaired } = repairs.part(found.problems);
  if (json) {
    const { path, holder } = folder;
    const report = { folder: path, holder, ...totalsOf(found), problems: open, repaired, notes: found.notes };
    await output.line(JSON.stringify(report, null, 2));
    return open.length;
  }
  for (const note of found.notes) await output.line(`note: ${note}`);
  for (const problem of repaired) {
    await output.line(`note: repaired by a later record: ${placeText(problem)}: ${problem.what}`);
  }
  for (const problem of open) await output.line(problemText(problem));
  await output.line(summary(found, open));
  return open.length;
}

/** A problem as a line. */
export function problemText(problem: Problem): string {
  return `${problem.kind}: ${placeText(problem)}: ${problem.what}`;
}

function placeText({ segment, offset, group, instance }: Problem): string {
  if (segment === null) return 'log';
  const place = `segment ${segment} offset ${offset}`;
  return group === null ? place : `${place} group ${group} instance ${instance}`;
}

function totalsOf({ segments }: Survey): { segments: number; records: number; bytes: number } {
  let records = 0;
  let bytes = 0;
  for (const segment of segments) {
    records += segment.records;
    bytes += segment.size_bytes;
  }
  return { segments: segments.length, records, bytes };
}

function summary(found: Survey, open: readonly Problem[]): string {
  const { segments, records, bytes } = totalsOf(found);
  const torn = open.filter(({ kind }) => kind === 'torn tail').length;
  const what = open.length === 0 ? 'clean' : `${open.length - torn} corrupt, ${torn} torn`;
  return `${what}: ${counted(segments, 'segment')}, ${counted(records, 'record')}, ${bytesText(bytes)}`;
}
