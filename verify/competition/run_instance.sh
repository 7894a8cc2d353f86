#!/usr/bin/env bash
# VNN-COMP: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT TIMEOUT. The result is sat, unsat, unknown, timeout or error.
# The program is veriflow in .venv beside these scripts, else on PATH; VERIFLOW names another.
set -uo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1; got '${1:-}'" >&2; exit 1; }
here="$(cd "$(dirname "$0")" && pwd)"
program="${VERIFLOW:-$([ -x "$here/.venv/bin/veriflow" ] && echo "$here/.venv/bin/veriflow" || echo veriflow)}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# shellcheck disable=SC2086 # the program may be several words
if timeout --kill-after=5 "$(( ${6%.*} + 5 ))" $program solver verify "$4" --network "$3" --timeout "$6" > "$5.part"; then
    sed 's/^timed-out$/timeout/' "$5.part" > "$5"
else
    [ $? -eq 124 ] && echo timeout > "$5" || echo error > "$5"
fi
rm -f "$5.part"
