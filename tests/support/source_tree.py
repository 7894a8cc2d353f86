"""The tree of sources with a line for each file, as CONTRIBUTING.md shows it.

``python tests/support/source_tree.py`` writes it there.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("veriflow", "exporters", "verify")
PAGE = ROOT / "CONTRIBUTING.md"
LONGEST = 96
_TREE = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)


def summary(file: Path) -> str:
    """The first sentence of a file's docstring, up to its colon where it is long."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.(?= |\n|$)", text.partition("\n\n")[0].replace("\n", " "))[0]
    return sentence if len(sentence) <= LONGEST else re.split("[:;,] ", sentence)[0]


def source_tree() -> str:
    """One line for each folder and file."""
    return "".join(line + "\n" for package in PACKAGES for line in _lines(ROOT / package, ""))


def shown_tree() -> str:
    """The one in CONTRIBUTING.md."""
    return _TREE.findall(PAGE.read_text(encoding="utf-8"))[0]


def _lines(folder: Path, indent: str) -> Iterator[str]:
    yield f"{indent}{folder.name + '/':{30 - len(indent)}}{summary(folder / '__init__.py')}"
    indent += "  "
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"{indent}{file.name:{30 - len(indent)}}{summary(file)}"
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            yield from _lines(inner, indent)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_TREE.sub(lambda _: source_tree(), page, count=1), encoding="utf-8")
