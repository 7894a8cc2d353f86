"""The progress of a search in a line."""

from __future__ import annotations

import math

from veriflow.queries.query import Query

from .box_split import RadialSearch
from .search import DomainSearch


def progress_text(search: DomainSearch | RadialSearch, query: Query) -> str:
    """The proved radius or the least proved margin, and how many domains were bounded and are open.

    A radius comes with the mass of its ball under the flow, where the region is a ball that is not trimmed.
    """
    ball = query.region.ball
    law = query.flow.base.law if query.flow and ball and not ball.is_trimmed else None

    def radius(value: float) -> str:
        return f"{value:.4g}" if law is None else f"{value:.4g} (mass {float(law.cdf(value)):.4g})"

    if isinstance(search, RadialSearch):
        refuted = f"refuted at {radius(search.refuted)}, " if math.isfinite(search.refuted) else ""
        return f"proved to {radius(search.proved)}, {refuted}{search.boxes} pieces, {search.open} open"
    margin = "" if search.margin is None else f", least margin {search.margin:.3g}"
    return f"{search.domains} pieces, {search.open} open{margin}"
