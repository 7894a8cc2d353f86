"""How a search gets on, in a line."""

from __future__ import annotations

import math

from veriflow.queries.query import Query

from .box_split import RadialSearch
from .search import PieceSearch


def progress_text(search: PieceSearch | RadialSearch, query: Query) -> str:
    """What is proved of a query, or else the least proved margin, and how many pieces were looked at and are open.

    Norms are told with the flow's mass of smaller ones, where the region is a ball that is not trimmed.
    """
    ball = query.region.ball
    law = query.flow.base.law if query.flow and ball and not ball.is_trimmed else None

    def radius(value: float) -> str:
        return f"{value:.4g}" if law is None else f"{value:.4g} (mass {float(law.cdf(value)):.4g})"

    if isinstance(search, RadialSearch):
        refuted = f"refuted at {radius(search.refuted)}, " if math.isfinite(search.refuted) else ""
        return f"proved to {radius(search.proved)}, {refuted}{search.boxes} pieces, {search.open} open"
    margin = "" if search.margin is None else f", least margin {search.margin:.3g}"
    return f"{search.pieces} pieces, {search.open} open{margin}"
