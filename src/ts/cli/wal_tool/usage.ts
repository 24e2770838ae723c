/** What `--help` prints. */

const FOLDER = `FOLDER is the folder of a log (0000000001.seg, …, marks) or the data folder of a store (DataDirPath),
which has it in log/.`;

const READ_ONLY = `Changes nothing, and works while the store runs and on a read-only file system.`;

const tool = `Usage: wal_tool inspect FOLDER [--json]
       wal_tool verify FOLDER [--json]
       wal_tool dump FOLDER [options]
       wal_tool repair FOLDER [--write]

Looks into the log of a store.

  inspect   what the folder holds: segments, high-water marks, groups
  verify    checks every byte that has a meaning
  dump      prints the records as JSON lines
  repair    wipes what a crash left unfinished at the end, as starting the store does

${FOLDER}

Only repair --write writes. Exit status: 0 fine, 1 problems were found, 2 wrong usage, or the folder cannot be read.
wal_tool COMMAND --help says more.
`;

const inspect = `Usage: wal_tool inspect FOLDER [--json]

Prints what the log holds: format version, identity, high-water marks, each segment, each Paxos group, totals.
"live" is the latest record of each key; the log does not record what the store has let go of, so less may be needed.

${FOLDER}

  --json   one JSON document in place of tables

${READ_ONLY}
Exit status: 0, also where something is damaged (verify is for that); 2 wrong usage, or the folder cannot be read.
`;

const verify = `Usage: wal_tool verify FOLDER [--json]

Reads the whole log and prints each problem, with the segment, the offset and, where known, the group and instance:

  corruption   what was durable can no longer be read; the store sets such a log aside
  torn tail    the end of a write that a crash cut short; starting the store wipes it, and so does repair --write

Damage of a record that a later one has replaced is listed, and is no problem.

${FOLDER}

  --json   one JSON document in place of lines

${READ_ONLY}
Exit status: 0 no problems, 1 problems, 2 wrong usage, or the folder cannot be read.
`;

const dump = `Usage: wal_tool dump FOLDER [options]

Prints one JSON object a line for each record, in the order of the log: segment, offset, kind, group, instance, bytes
(of the body), flags, body_crc, status (sound, damaged or torn). A place without a readable record has kind null.

${FOLDER}

  --kind entry|state|all             all (the default) includes seals, and the marks of version 1
  --group N                          only records of this group
  --from I, --through I              only these instances (of state records: slots)
  --bodies none|hex|base64|text      the bodies, too; text is UTF-8
  --decode                           what a store wrote into the bodies: ballots, commands, items

${READ_ONLY}
Exit status: 0, also where something is damaged (verify is for that); 2 wrong usage, or the folder cannot be read.
`;

const repair = `Usage: wal_tool repair FOLDER [--write]

Says what a crash left unfinished at the end of the log. With --write it wipes that, exactly as starting the store does,
and nothing else: damage to what was durable is never touched. A log that a process holds is refused.

${FOLDER}

  --write   do it

Exit status: 0 nothing is left to do, 1 there is a torn tail (without --write) or damage, 2 wrong usage, the folder
cannot be read or is held.
`;

export const usages = { tool, inspect, verify, dump, repair };
