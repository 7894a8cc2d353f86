"""Arguments and options of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A flow that `veriflow fit` wrote.")]
TableArgument = Annotated[
    Path, typer.Argument(metavar="TABLE", help="Rows: .csv, .tsv, .csv.gz, .parquet, .npz or .npy.")
]
DataOption = Annotated[Path | None, typer.Option("--data", metavar="TABLE", help="Rows to count on: .csv, .parquet, …")]
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
SeedOption = Annotated[int, typer.Option(min=0, help="Of the random numbers.")]

StabilityOption = Annotated[
    float,
    typer.Option(metavar="NATS", help="What a ReLU may cost that is unstable over the level set; 0: no such penalty."),
]

FlowOption = Annotated[Path, typer.Option("--flow", metavar="MODEL", help="A flow that `veriflow fit` wrote.")]
NetworkOption = Annotated[Path, typer.Option("--network", metavar="FILE", help="The network under test, as ONNX.")]
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
