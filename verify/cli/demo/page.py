"""The demo's page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .models import ClassModel
from .plots import level_sets_plot, masses_plot, norms_plot
from .rows import MASSES, DemoRow, certified_text, failure_table, percent


@dataclass(frozen=True)
class Picture:
    """A picture with a title, what it shows for those who cannot see it, and a caption."""

    title: str
    svg: bytes
    alternative: str
    caption: str

    @property
    def address(self) -> str:
        """The picture itself as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


def render_page(models: Sequence[ClassModel], rows: Sequence[DemoRow], accuracy: float, commands: Sequence[str]) -> str:
    """The page as HTML, every text in it escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        models=models,
        groups=[[row for row in rows if row.model is model] for model in models],
        masses=MASSES,
        accuracy=accuracy,
        commands=commands,
        certified_text=certified_text,
        percent=percent,
        failure_table=failure_table,
        open_rows=[row for row in rows if not row.certificate.complete],
        pictures=[_masses(rows), _level_sets(models, rows), _norms(models)],
    )


def _masses(rows: Sequence[DemoRow]) -> Picture:
    bars = "; ".join(f"{row.model.name}, {row.claim.title}: {certified_text(row)}" for row in rows)
    return Picture(
        "How far the proofs reach",
        masses_plot(rows),
        f"Bars of the mass that is proved, and the mass from which on the property is refuted. {bars}.",
        "Green: the property is proved on the most probable inputs of this mass. Red: the level set holds a failure.",
    )


def _level_sets(models: Sequence[ClassModel], rows: Sequence[DemoRow]) -> Picture:
    first, second = models[0].flow.features[:2]
    return Picture(
        "Where the failures are",
        level_sets_plot(models, rows),
        f"Scatter plots of {first} and {second}, one for each class: patients, samples of the flow and failures.",
        f"The first two of {models[0].flow.dim} features. Red: the most probable inputs on which a property fails.",
    )


def _norms(models: Sequence[ClassModel]) -> Picture:
    fits = "; ".join(f"{m.name}: distance {m.norm_fit.statistic:.3f}, p = {m.norm_fit.p_value:.2g}" for m in models)
    return Picture(
        "Whether the masses can be trusted",
        norms_plot(models),
        f"Histograms of latent norms and the density of their law, one for each class. {fits}.",
        "Masses are those of the flow; they are as true of patients as the latent norms follow their law. "
        f"Kolmogorov–Smirnov on held-out rows: {fits}; a small p speaks against the law.",
    )
