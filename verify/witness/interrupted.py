"""The error of a search that Ctrl-C stopped, with what it has found."""

from __future__ import annotations

from typing import Any


class InterruptedSearch(KeyboardInterrupt):
    """An interrupt that carries what was found by then.

    Attributes:
        found: what the call would have returned: `Answers` of `verify_with`, `JointAnswers` of `verify_all`, a `Certificate` of
            `certify`; what is open in it is UNKNOWN, or not complete.
    """

    def __init__(self, found: Any) -> None:  # noqa: ANN401 - one of those named above
        super().__init__()
        self.found = found
