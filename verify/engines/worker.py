"""A module run in a process of its own: decides a query file with one of veriflow's engines.

Arguments: the file, the engine's name, the module that registers it where it is none of veriflow's own, the deadline on the
clock of `time.monotonic`, and perhaps a checkpoint, which is written too when the process is asked to end. Prints one JSON
object on the last line: ``{"outcome": …, "reason": …, "point": ["1/3", …] or null}``, ``{"error": …}`` where the engine
failed, ``{"refusal": …}`` where it cannot take the query.
"""

import importlib
import json
import signal
import sys
import time
from pathlib import Path

from exporters import query_from_bytes
from veriflow.errors import SolverError, VeriflowError

from .limits import Limits
from .registry import decide


def answer(path: str, engine_name: str, deadline: float, checkpoint: Path | None) -> dict[str, object]:
    """The engine's verdict, its witness as the point alone."""
    try:
        query = query_from_bytes(Path(path).read_bytes())
        left = max(deadline - time.monotonic(), 1e-6)
        verdict = decide(query, engine_name, Limits(timeout=left, checkpoint=checkpoint))
    except SolverError as error:
        return {"error": str(error)}
    except VeriflowError as error:
        return {"refusal": str(error)}
    point = None if verdict.witness is None else [str(value) for value in verdict.witness.point]
    return {"outcome": str(verdict.outcome), "reason": verdict.reason, "point": point}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.argv[3]:
        importlib.import_module(sys.argv[3])
    kept = Path(sys.argv[5]) if len(sys.argv) > 5 else None
    sys.stdout.write("\n" + json.dumps(answer(sys.argv[1], sys.argv[2], float(sys.argv[4]), kept)))
