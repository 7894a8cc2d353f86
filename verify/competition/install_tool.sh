#!/usr/bin/env bash
# VNN-COMP: install_tool.sh v1. Makes an environment beside these scripts and installs veriflow into it.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1; got '${1:-}'" >&2; exit 1; }
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
[ -f "$root/pyproject.toml" ] || exit 0 # these scripts came with an installed veriflow
"${PYTHON:-python3}" -m venv "$here/.venv"
"$here/.venv/bin/pip" install --quiet --constraint "$root/constraints.txt" "$root"
