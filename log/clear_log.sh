#!/usr/bin/env bash
# Removes the logs of all servers of this repository. Refuses while one of them runs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)

for cmdline in $(grep -alsE 'bin/(store|consumer|lock|scheduler)_main' /proc/[0-9]*/cmdline || true); do
  process=${cmdline%/cmdline}
  case "$(readlink "$process/cwd" || true)/" in
    "$root"/*)
      echo "a server runs (process ${process#/proc/}); stop it first: kill ${process#/proc/}" >&2
      exit 1
      ;;
  esac
done
find "$root/log" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
echo "log/ is clean"
