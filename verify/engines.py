"""The engines there are, and which of them are installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from veriflow.errors import SolverError
from veriflow.query import Query
from veriflow.regions import Ball, Product
from veriflow.threads import one_thread

from .branch_and_bound import verify_branch_and_bound
from .milp import verify_milp
from .smt import verify_smt
from .verdict import Verdict

Engine = Callable[..., Verdict]


@dataclass(frozen=True)
class EngineInfo:
    """One engine: its name, the package that it needs, what it is for and how to get it."""

    name: str
    module: str
    package: str
    description: str
    install: str
    run: Engine

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        if importlib.util.find_spec(self.module) is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


_EXACT = "exact rational arithmetic; boxes, L1 and Linf balls and shells, their products"
ENGINES: dict[str, EngineInfo] = {
    info.name: info
    for info in (
        EngineInfo(
            "bab",
            "highspy",
            "highspy",
            "branch and bound on latents or ReLUs, leaves by HiGHS; boxes, L1 and Linf balls, their products",
            "comes with veriflow",
            verify_branch_and_bound,
        ),
        EngineInfo(
            "milp",
            "highspy",
            "highspy",
            "HiGHS with big-M from symbolic bounds; boxes, L1 and Linf balls and shells, their products",
            "comes with veriflow",
            verify_milp,
        ),
        EngineInfo("smt", "z3", "z3-solver", f"Z3, {_EXACT}", "comes with veriflow", verify_smt),
        EngineInfo(
            "smt:cvc5",
            "cvc5",
            "cvc5",
            f"cvc5, {_EXACT}",
            "pip install 'veriflow-toolkit[solvers]'",
            partial(verify_smt, solver="cvc5"),
        ),
        EngineInfo(
            "smt:msat",
            "mathsat",
            "mathsat",
            f"MathSAT, {_EXACT}",
            "pysmt-install --msat",
            partial(verify_smt, solver="msat"),
        ),
        EngineInfo(
            "smt:yices",
            "yicespy",
            "yicespy",
            f"Yices 2, {_EXACT}",
            "pysmt-install --yices",
            partial(verify_smt, solver="yices"),
        ),
    )
}


def engine(name: str) -> EngineInfo:
    """The engine of that name.

    Raises:
        SolverError: an unknown name, or an engine that is not installed.
    """
    if name not in ENGINES:
        raise SolverError(f"expected an engine among {', '.join(ENGINES)}; got {name!r}")
    info = ENGINES[name]
    if info.version is None:
        raise SolverError(
            f"expected the package {info.package!r} for engine {name!r}; it is not installed ({info.install})"
        )
    return info


def default_engine(query: Query) -> str:
    """The engine that decides most over the query's region: "milp" for shells and products, else "bab"."""
    region = query.region
    return "milp" if isinstance(region, Product) or (isinstance(region, Ball) and region.inner) else "bab"


def verify(query: Query, engine_name: str | None = None, *, timeout: float = 60.0) -> Verdict:
    """Decide a query.

    Args:
        query: what to decide.
        engine_name: one of `ENGINES`; `default_engine` chooses where none is given.
        timeout: seconds after which the answer is UNKNOWN.

    Raises:
        SolverError: an engine that is unknown, not installed or broken, or a time limit that is not positive.
        QueryError: a region that the engine cannot take.
    """
    if not timeout > 0:
        raise SolverError(f"expected a time limit above 0 seconds; got {timeout}")
    name = engine_name or default_engine(query)
    run, start = engine(name).run, time.monotonic()
    with one_thread():
        verdict = run(query, timeout=timeout)
    return replace(verdict, engine=name, seconds=time.monotonic() - start)
