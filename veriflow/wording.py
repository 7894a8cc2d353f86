"""Words for people: short texts, and what somebody perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 80
"""Most characters of a text that is shown beside others."""

MOST_NUMBERS = 6
"""Most numbers of a point that are shown beside others."""


def shortened(text: str) -> str:
    """The text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def listed_numbers(numbers: Sequence[float]) -> str:
    """The numbers to four digits, the first few of many."""
    shown = [f"{number:.4g}" for number in numbers[:MOST_NUMBERS]]
    return f"[{', '.join(shown)}{', …' if len(numbers) > MOST_NUMBERS else ''}]"


def perhaps(name: object, known: Iterable[object]) -> str:
    """What follows a name that is not known in a sentence: ``, did you mean 'verify'?``, or nothing."""
    names = {str(one).casefold(): str(one) for one in known}
    close = difflib.get_close_matches(str(name).casefold(), names, n=1)
    return f", did you mean {names[close[0]]!r}?" if close else ""
