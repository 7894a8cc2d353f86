"""The packages that are installed beside this one, and files of the user that hide them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..errors import VeriflowError


def refuse_hidden_packages(*names: str) -> None:
    """Refuse to go on where Python would import something else by the name of a package of ours.

    A file such as verify.py in the working folder comes first under ``python -m veriflow`` and in an interpreter.

    Raises:
        VeriflowError: a file or folder that hides a package.
    """
    home = Path(__file__).resolve().parents[2]
    for name in names:
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if found is None or found.parent != home / name:
            raise VeriflowError(
                f"expected the package {name!r} of veriflow, in {str(home)!r}; got {str(found or 'none')!r}, which hides it "
                "and needs another name or folder"
            )
