"""The engines that veriflow brings, which of them are installed, and the name of any solver."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from veriflow.errors import SolverError
from veriflow.queries.query import Query
from veriflow.regions.region import Region
from veriflow.runtime.deadline import OutOfTime, until
from veriflow.runtime.threads import one_thread
from veriflow.wording import perhaps

from ..tools.registry import ADAPTERS, external_tool
from ..tools.tool import ExternalTool
from ..witness.onnx_replay import confirmed
from ..witness.verdict import LATE, Outcome, Verdict
from .bab import verify_branch_and_bound
from .limits import Limits
from .milp import verify_milp
from .smt import verify_smt

_log = logging.getLogger(__name__)

Engine = Callable[[Query, Limits], Verdict]

IMPOSSIBLE = "what would violate the property contradicts itself"
"""Why a query without disjuncts holds."""


def _anything(region: Region) -> bool:
    del region
    return True


def _outlined(region: Region) -> bool:
    """No L2 shells, which outlines from outside fill."""
    return not region.has_round_hole


def _linear(region: Region) -> bool:
    """No L2 balls or shells."""
    return region.is_linear


@dataclass(frozen=True)
class EngineInfo:
    """An engine: its name, the module and package that it needs, what it takes in words, how to get it, its function.

    And whether it keeps checkpoints, which regions it takes, and for one that others put into `ENGINES` the module that
    does so: where several solvers run, the process of the engine imports it first.
    """

    name: str
    module: str
    package: str
    description: str
    install: str
    run: Engine
    keeps_checkpoints: bool = False
    takes: Callable[[Region], bool] = _anything
    registered_by: str = ""

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        if importlib.util.find_spec(self.module) is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


_EXACT = "exact in rationals"
ENGINES: dict[str, EngineInfo] = {
    info.name: info
    for info in (
        EngineInfo(
            "bab",
            "highspy",
            "highspy",
            "boxes, balls, shells; branch and bound, all bounds proved",
            "comes with veriflow",
            verify_branch_and_bound,
            keeps_checkpoints=True,
        ),
        EngineInfo(
            "milp",
            "highspy",
            "highspy",
            "boxes, balls, shells; linear programs, all bounds proved",
            "comes with veriflow",
            verify_milp,
            takes=_outlined,
        ),
        EngineInfo(
            "smt",
            "z3",
            "z3-solver",
            f"boxes, balls, shells; Z3, {_EXACT}",
            "comes with veriflow",
            verify_smt,
            takes=_linear,
        ),
        EngineInfo(
            "smt:cvc5",
            "cvc5",
            "cvc5",
            f"boxes, balls, shells; cvc5, {_EXACT}",
            "pip install 'veriflow-toolkit[solvers]'",
            partial(verify_smt, solver="cvc5"),
            takes=_linear,
        ),
        EngineInfo(
            "smt:msat",
            "mathsat",
            "mathsat",
            f"boxes, balls, shells; MathSAT, {_EXACT}",
            "pysmt-install --msat",
            partial(verify_smt, solver="msat"),
            takes=_linear,
        ),
        EngineInfo(
            "smt:yices",
            "yicespy",
            "yicespy",
            f"boxes, balls, shells; Yices 2, {_EXACT}",
            "pysmt-install --yices",
            partial(verify_smt, solver="yices"),
            takes=_linear,
        ),
    )
}


def engine(name: str) -> EngineInfo:
    """The engine of that name.

    Raises:
        SolverError: an unknown name, or an engine that is not installed.
    """
    if name not in ENGINES:
        raise SolverError(f"expected an engine among {', '.join(ENGINES)}; got {name!r}{perhaps(name, ENGINES)}")
    info = ENGINES[name]
    if info.version is None:
        raise SolverError(
            f"expected the package {info.package!r} for engine {name!r}; it is not installed ({info.install})"
        )
    return info


def solver(name: str) -> EngineInfo | ExternalTool:
    """An engine by its name in `ENGINES`, or an outside tool by ``KIND`` or ``KIND:PATH``, see `ADAPTERS`.

    Raises:
        SolverError: an unknown name, or a solver that is not installed.
    """
    if name in ENGINES:
        return engine(name)
    if name.partition(":")[0] not in ADAPTERS:
        known = dict.fromkeys((*ENGINES, *ADAPTERS))
        raise SolverError(f"expected a solver among {', '.join(known)}; got {name!r}{perhaps(name, known)}")
    return external_tool(name)


def check_checkpoint(names: Sequence[str]) -> None:
    """Refuse a checkpoint for solvers of which none keeps one.

    Raises:
        SolverError: no such engine among the names.
    """
    able = [name for name, info in ENGINES.items() if info.keeps_checkpoints]
    if not set(able).intersection(names):
        raise SolverError(f"expected {' or '.join(able)} among the solvers, for a checkpoint; got {', '.join(names)}")


def verify_alone(query: Query, name: str, limits: Limits) -> Verdict:
    """Decide a query by one solver, and have onnxruntime look at the witness, on the networks' own files too.

    Args:
        query: what to decide.
        name: an engine of `ENGINES`, which runs in this process, or an outside tool, see `solver`.
        limits: of which ``bab`` alone takes the checkpoint and the report, and none the memory.

    Raises:
        SolverError: a solver that is unknown, not installed or broken; a checkpoint for another solver than ``bab``.
        QueryError: a region that the solver cannot take, a checkpoint of another query.
        StorageError: a checkpoint that cannot be read or written.
        GraphError: a violation at which a network's file gives what no rounding of the exact outputs explains.
    """
    return confirmed(query, decide(query, name, limits))


def decide(query: Query, engine_name: str, limits: Limits) -> Verdict:
    """The verdict of `verify_alone` without onnxruntime: its witness is replayed in exact rationals alone."""
    chosen, start = solver(engine_name), time.monotonic()
    if limits.checkpoint is not None:
        check_checkpoint([engine_name])
    _log.info("asking %s for %g s: %r", engine_name, limits.timeout, query)
    with one_thread(), until(start + limits.timeout):
        try:
            if not query.violation:
                verdict = Verdict(Outcome.HOLDS, IMPOSSIBLE)
            elif isinstance(chosen, EngineInfo):
                verdict = chosen.run(query, limits)
            else:
                verdict = chosen.run(query, timeout=limits.timeout)
        except OutOfTime:
            verdict = Verdict(Outcome.UNKNOWN, LATE)
        except (MemoryError, RuntimeError) as error:  # the latter is torch's
            if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
                raise
            verdict = Verdict(Outcome.UNKNOWN, "the network is too large for the memory that there is")
    verdict = replace(verdict, engine=engine_name, seconds=time.monotonic() - start)
    _log.info("%s: %s, %s (%.2f s)", engine_name, verdict.outcome, verdict.reason, verdict.seconds)
    return verdict
