"""Arguments and options of several commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from veriflow.files.whole_files import open_file
from veriflow.training.options import MOST_SEED


def readable(path: Path | None) -> Path | None:
    """The path of a file that can be read: what is none is refused before anything heavy is imported."""
    if path is not None:
        with open_file(path, most=sys.maxsize):
            pass
    return path


def readable_networks(entries: list[str]) -> list[str]:
    """``FILE`` or ``NAME=FILE`` each, of files that can be read."""
    for entry in entries:
        readable(Path(entry if Path(entry).exists() else entry.rpartition("=")[2]))
    return entries


def is_property_file(text: str) -> bool:
    """Whether a property is the name of a file and not a formula."""
    return text.endswith(".vnnlib")


def readable_property(text: str) -> str:
    """The text, if it names no property file or one that can be read."""
    readable(Path(text) if is_property_file(text) else None)
    return text


ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", callback=readable, help="A flow that `veriflow fit` wrote.")
]
TableArgument = Annotated[
    Path,
    typer.Argument(metavar="TABLE", callback=readable, help="Rows: .csv, .tsv, .csv.gz, .parquet, .npz or .npy."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="TABLE", callback=readable, help="Rows to count on: .csv, .parquet, …"),
]
LabelOption = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column of classes.")]
ClassOption = Annotated[str | None, typer.Option("--class", help="Use the rows of this class only; needs --label.")]
SeparatorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Between cells of text: comma, semicolon, tab, bar or space; else found."),
]
DecimalOption = Annotated[str | None, typer.Option(metavar=".|,", help="The decimal mark of text; else found.")]
HeaderOption = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether the first row of text holds names; else found.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the random numbers.")]

StabilityOption = Annotated[
    float,
    typer.Option(metavar="NATS", help="What a ReLU may cost that is unstable over the level set; 0: no such penalty."),
]

FlowOption = Annotated[
    Path, typer.Option("--flow", metavar="MODEL", callback=readable, help="A flow that `veriflow fit` wrote.")
]
NetworkOption = Annotated[
    Path, typer.Option("--network", metavar="FILE", callback=readable, help="The network under test, as ONNX.")
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "--network-output",
        metavar="NAME",
        help="The output of the network to ask about; all that are no labels by default.",
    ),
]
NetworkOutputOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The output of the network to ask about; all that are no labels by default."),
]
PropertyOption = Annotated[
    str,
    typer.Option(
        "--property",
        metavar="TEXT|FILE",
        callback=readable_property,
        help="What must hold, such as `y[1] - y[0] >= 0.5 | y[1] >= 2`, `classified_as(1)` or `robust(0.1, inf)`; or a "
        "VNN-LIB file, NAME.vnnlib, of what must not happen.",
    ),
]
MassOption = Annotated[float | None, typer.Option("--mass", help="Look at the most probable set of this mass.")]
RadiusOption = Annotated[float | None, typer.Option("--radius", help="Look at latents up to this norm instead.")]
TrimOption = Annotated[
    str | None,
    typer.Option(
        "--trim",
        metavar="T|auto",
        help="Instead of the level set, a set of the same mass with no latent coordinate beyond T: less extended, but not "
        "the most probable one.",
    ),
]
DirectionOption = Annotated[
    str,
    typer.Option(
        metavar="latent-to-data|data-to-latent",
        help="For a property file: search the level set for data in the file's boxes, or the boxes for data of the level set.",
    ),
]
LATENT_TO_DATA = "latent-to-data"
