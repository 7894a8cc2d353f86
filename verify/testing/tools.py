"""What every outside tool obeys: its claims are true where they can be checked, and what cannot be read is unknown."""

from __future__ import annotations

import tempfile
from pathlib import Path

from veriflow.testing.requirements import require

from ..tools.process import ToolRun
from ..tools.tool import ExternalTool
from .verdicts import check_verdicts, known_queries

_UNREADABLE = ("", "\n\n", "a model of insat", "\0\0", "(error)", "satunsat")


def check_tool(tool: ExternalTool, timeout: float = 60.0) -> None:
    """Check an outside tool on small queries whose truth is known, and how it reads rubbish.

    Raises:
        AssertionError: a claim that is wrong, a ``sat`` whose witness does not replay, nothing decided at all; a verdict from
            output that holds none, or from a run that failed.
    """
    check_reading(tool)
    check_verdicts(lambda query: tool.run(query, timeout=timeout), lambda region: True, every=3)


def check_reading(tool: ExternalTool) -> None:
    """Check that output which holds no answer is ``unknown`` with a reason, and that a run that failed says no ``unsat``.

    Raises:
        AssertionError: an answer from such output.
    """
    query = known_queries()[0][0]
    with tempfile.TemporaryDirectory(prefix="veriflow-") as folder:
        for output in _UNREADABLE:
            claim = tool.parse(ToolRun("", 0, output, ""), query, Path(folder))
            require(
                claim.answer == "unknown" and claim.reason, f"expected 'unknown' of the output {output!r}; got {claim}"
            )
        for output in (*_UNREADABLE, "unsat\n", "UNSAT\n", "holds\n"):
            claim = tool.parse(ToolRun("", 1, output, ""), query, Path(folder))
            require(claim.answer != "unsat", f"expected no 'unsat' of a run with exit code 1 and {output!r}; got one")
