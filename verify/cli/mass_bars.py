"""Certificates as bars over the masses from 0 to 1: proved, open, refuted."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.text import Text

from veriflow.errors import StorageError
from veriflow.files.whole_files import write_atomically
from veriflow.runtime.lazy_imports import LazyImports

from .. import Certificate
from .output import console

with LazyImports(__name__, extra="plots") as imports:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROVED, OPEN, REFUTED = "#2f855a", "#cbd5e0", "#c53030"
CELLS = 60
SUFFIXES = (".pdf", ".png", ".svg")


def mass_bar(certificate: Certificate) -> Group:
    """The bar in characters; a cell is proved or refuted where all of it is."""
    proved, open_, refuted = "#.x" if console.options.ascii_only else "█░▒"
    first, last = math.floor(CELLS * certificate.certified_mass), math.ceil(CELLS * _refuted_from(certificate))
    bar = Text.assemble(
        (proved * first, PROVED), (open_ * (last - first), OPEN), (refuted * (CELLS - last), REFUTED), no_wrap=True
    )
    legend = f"0{'mass of the level set':^{CELLS - 2}}1\n{proved} proved  {open_} open  {refuted} refuted"
    return Group(bar, legend)


@imports.on_call
def checked_picture(path: Path) -> Path:
    """The path of a picture that can be drawn.

    Raises:
        StorageError: a suffix of another kind of file.
        VeriflowError: no matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise StorageError(f"expected a picture's name with one of {', '.join(SUFFIXES)}; got {str(path)!r}")
    return path


@imports.on_call
def write_mass_plot(certificate: Certificate, path: Path) -> None:
    """The bar as a picture, in the format that the suffix names.

    Raises:
        StorageError: as `write_atomically`.
    """
    figure = Figure((8, 1.6), layout="constrained")
    axis = figure.subplots()
    draw_bars(axis, np.zeros(1), np.array([certificate.certified_mass]), np.array([_refuted_from(certificate)]))
    axis.set_title(certificate.property, parse_math=False)
    axis.set_yticks([])
    figure.legend(loc="outside right center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower().removeprefix("."), dpi=150)
    write_atomically(path, buffer.getvalue())


def draw_bars(
    axis: Axes, places: NDArray[np.float64], proved: NDArray[np.float64], refuted: NDArray[np.float64]
) -> None:
    """A bar at each place from mass 0 to 1: proved up to one mass, refuted from another on, all of shape ``[n]``."""
    for left, right, colour, text in (
        (0 * proved, proved, PROVED, "proved"),
        (proved, refuted, OPEN, "open"),
        (refuted, 1 + 0 * refuted, REFUTED, "refuted"),
    ):
        axis.barh(places, right - left, left=left, height=0.6, color=colour, label=text)
    axis.set_xlim(0, 1)
    axis.set_xlabel("mass of the level set")


def _refuted_from(certificate: Certificate) -> float:
    return 1.0 if certificate.witness is None else max(certificate.refuted_mass, certificate.certified_mass)
