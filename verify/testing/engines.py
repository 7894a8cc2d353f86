"""What every engine obeys: HOLDS and VIOLATED are true, and a violation comes with a witness that replays."""

from __future__ import annotations

from ..engines.limits import Limits
from ..engines.registry import ENGINES, EngineInfo
from .verdicts import check_verdicts


def check_engine(engine: EngineInfo | str, timeout: float = 60.0) -> None:
    """Check an engine on small queries whose truth is known, over every kind of region that it takes.

    Args:
        engine: what describes it, or its name in `ENGINES`.
        timeout: seconds for each query.

    Raises:
        AssertionError: a verdict that is wrong, a witness that does not replay, no reason, or nothing decided at all.
    """
    info = ENGINES[engine] if isinstance(engine, str) else engine
    check_verdicts(lambda query: info.run(query, Limits(timeout=timeout)), info.takes)
