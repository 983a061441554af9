"""The application that all commands belong to."""

from __future__ import annotations

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains a machine-learning potential for a material too large for DFT, from finite fragments.",
)
