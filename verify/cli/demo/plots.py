"""The pictures of the demo's page, as SVG: data and level sets, latent norms, certified mass."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..mass_bars import REFUTED, draw_bars
from .models import ClassModel
from .rows import DemoRow

COLOURS = {"benign": "#2b6cb0", "malignant": "#b7791f"}
INK = "#2d3748"
MARKERS = ("X", "P", "D")
SAMPLES = 3000

_STYLE: dict[Any, object] = {
    "axes.edgecolor": "#a0aec0",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "veriflow",
    "xtick.color": INK,
    "ytick.color": INK,
}


def level_sets_plot(models: Sequence[ClassModel], rows: Sequence[DemoRow]) -> bytes:
    """The first two features of each class: rows, samples inside the level sets of mass .5 and .9, worst failures."""
    with mpl.rc_context(_STYLE):
        figure = Figure((9.5, 4.8), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(1, len(models), sharex=True, sharey=True)
        for axis, model in zip(axes, models, strict=True):
            _scatter(axis, model, [row for row in rows if row.model is model])
        axes[0].set_ylabel(models[0].flow.features[1])
        handles = {text: mark for axis in axes for mark, text in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
        return _svg(figure)


def _scatter(axis: Axes, model: ClassModel, rows: Sequence[DemoRow]) -> None:
    torch.manual_seed(0)
    samples = model.flow.sample([SAMPLES])
    mass = model.flow.score(samples).numpy()
    x, y = samples[:, 0].numpy(), samples[:, 1].numpy()
    for level, shade in ((0.9, "#dbe4ee"), (0.5, "#a9bdd3")):
        inside, text = mass <= level, f"samples in the level set of mass {level}"
        axis.scatter(x[inside], y[inside], s=14, color=shade, lw=0, rasterized=True, label=text)
    data = np.concatenate([model.train, model.held_out])
    axis.scatter(data[:, 0], data[:, 1], s=5, color=INK, lw=0, label="patients")
    for row, marker in zip(rows, MARKERS, strict=True):
        if row.failure is not None:
            first, second = row.failure.values[:2]
            text = f"failure of: {row.claim.title}"
            axis.scatter(first, second, s=70, marker=marker, color=REFUTED, edgecolor="white", zorder=3, label=text)
    axis.set_title(model.name)
    axis.set_xlabel(model.flow.features[0])


def norms_plot(models: Sequence[ClassModel]) -> bytes:
    """Histograms of the latent norms of each class's rows, and the density that the base's law gives them."""
    with mpl.rc_context(_STYLE):
        figure = Figure((9.5, 3.2), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(1, len(models))
        for axis, model in zip(axes, models, strict=True):
            law, colour = model.flow.base.law, COLOURS[model.name]
            end = max(float(law.quantile(0.995)), float(model.norms(model.held_out).max()))
            bins = np.linspace(0, end, 25).tolist()
            axis.hist(model.norms(model.train), bins, density=True, color=colour, alpha=0.25, label="training rows")
            held_out = model.norms(model.held_out)
            axis.hist(held_out, bins, density=True, histtype="step", color=colour, label="held-out rows")
            r = np.linspace(end / 1000, end, 500)
            axis.plot(r, np.exp(law.profile(r)) * r ** (model.flow.dim - 1), color=INK, label="law of the base")
            axis.set_title(model.name)
            axis.set_xlabel("latent norm")
            axis.set_yticks([])
            axis.spines.left.set_visible(False)
            axis.legend(loc="upper right")
        return _svg(figure)


def masses_plot(rows: Sequence[DemoRow]) -> bytes:
    """A bar from mass 0 to 1 for each row: proved, open, refuted."""
    with mpl.rc_context(_STYLE):
        figure = Figure((9.5, 0.42 * len(rows) + 1.1), layout="constrained")
        axis = figure.subplots()
        places = -np.arange(len(rows), dtype=float)
        proved = np.array([row.certified_mass for row in rows])
        refuted = np.array([row.refuted_mass for row in rows])
        draw_bars(axis, places, proved, refuted)
        axis.vlines(proved, places - 0.3, places + 0.3, color="white", lw=1.5)
        axis.set_yticks(places, [f"{row.model.name}, {row.claim.title}" for row in rows])
        axis.tick_params(axis="y", length=0)
        axis.spines.left.set_visible(False)
        figure.legend(loc="outside upper right", ncols=3)
        return _svg(figure)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=150, transparent=True, metadata={"Date": None})
    return buffer.getvalue()
