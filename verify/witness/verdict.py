"""Verdicts and witnesses: what an engine answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from veriflow.errors import SolverError
from veriflow.wording import listed_numbers, shortened

LATE = "the time limit was reached"
"""The reason of an answer that did not come in time, where there is no more to say."""


class Outcome(StrEnum):
    """The three answers."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class OnnxRun:
    """What onnxruntime computes at a witness, and whether the property is violated there; a verdict rests on exact rationals.

    Attributes:
        names: of the files that were run, one for each place where the query applies a network.
        outputs: what they give there, each flat.
        dtype: the coarsest floating-point type of their inputs and outputs, such as float32.
        deviation: largest difference from the exact outputs; infinite where a float is.
        violated: whether these outputs violate the property too; None where some are no numbers, or nothing was asked.
    """

    names: tuple[str, ...]
    outputs: tuple[tuple[float, ...], ...]
    dtype: str
    deviation: float
    violated: bool | None

    @property
    def called(self) -> str:
        """The files' names, each once."""
        return " and ".join(dict.fromkeys(self.names))


@dataclass(frozen=True)
class Witness:
    """An input that violates the property in exact rationals, and in a verdict what onnxruntime makes of it.

    Attributes:
        point: the input of the query, exact: the latent z and what else it chooses, or the data.
        latent: the latent z, exact.
        data: the data point that the network saw, rounded to float64 from exact values.
        outputs: the network's outputs there, rounded to float64 from exact values.
        norm: norm of z, in the norm of the flow's base where the region is a box in the flow's data, else in its region's
            (infinity norm for a box).
        log_density: natural-log density of the data point under the flow; None without a flow.
        level_mass: mass of the level set on whose boundary the point lies; None without a flow.
        others: the further data points that the query speaks of, by name.
        own: the networks' own files at their data points; None where no network was read from a file, and until an engine's
            answer is one of `verify`.
        exported: the query's graph as `exporters.graph_to_onnx` writes it.
        not_run: why onnxruntime did not run one of these, in sentences.
    """

    point: tuple[Fraction, ...]
    latent: tuple[Fraction, ...]
    data: tuple[float, ...]
    outputs: tuple[float, ...]
    norm: float
    log_density: float | None = None
    level_mass: float | None = None
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    own: OnnxRun | None = None
    exported: OnnxRun | None = None
    not_run: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Witness(data {listed_numbers(self.data)}, outputs {listed_numbers(self.outputs)})"


class NoTruthValue:
    """A base that refuses ``bool``: ``if verify(query):`` is an error, and not always true."""

    def __bool__(self) -> bool:
        raise SolverError(
            f"expected .holds, .violated or .unknown of a verdict; got {type(self).__name__} used as true or false"
        )


@dataclass(frozen=True)
class Verdict(NoTruthValue):
    """HOLDS, VIOLATED with a replayed witness, or UNKNOWN with the reason; it is no truth value.

    Attributes:
        outcome: the answer.
        reason: one sentence that says how it was reached, or why it was not.
        witness: present where the outcome is VIOLATED.
        engine: which engine answered; `verify` fills it in, and the time.
        seconds: wall-clock time.
    """

    outcome: Outcome
    reason: str
    witness: Witness | None = None
    engine: str = ""
    seconds: float = 0.0

    def __repr__(self) -> str:
        by = f" by {self.engine} in {self.seconds:.2f} s" if self.engine else ""
        return f"Verdict({self.outcome}{by}: {shortened(self.reason)})"

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.VIOLATED) != (self.witness is not None):
            raise AssertionError("a verdict has a witness exactly where it says VIOLATED")

    @property
    def holds(self) -> bool:
        """Whether the answer is HOLDS."""
        return self.outcome is Outcome.HOLDS

    @property
    def violated(self) -> bool:
        """Whether the answer is VIOLATED."""
        return self.outcome is Outcome.VIOLATED

    @property
    def unknown(self) -> bool:
        """Whether the answer is UNKNOWN."""
        return self.outcome is Outcome.UNKNOWN
