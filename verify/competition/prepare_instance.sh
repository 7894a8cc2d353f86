#!/usr/bin/env bash
# VNN-COMP: prepare_instance.sh v1 CATEGORY ONNX VNNLIB. Nothing is prepared; files that are not there are refused.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "expected version v1; got '${1:-}'" >&2; exit 1; }
for file in "$3" "$4"; do
    [ -f "$file" ] || { echo "expected a file; got '$file'" >&2; exit 1; }
done
