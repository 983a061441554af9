"""Imports every part of the environment and says on one line what there is; exit status 1 if a part is broken."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

MODULES = (
    "numpy",
    "scipy",
    "ase",
    "torch",
    "nequip",
    "openmm",
    "sklearn",
    "matscipy",
    "tblite.interface",
    "dftd3.ase",
    "parsl",
)
MODULES += (
    "safetensors.torch",
    "matplotlib",
    "pydantic",
    "ruamel.yaml",
    "typer",
    "rich",
    "psutil",
    "clusterflow",
    "gpaw",
)
SPECIES = ("H", "C", "N", "O", "Zn", "Zr")


def paw_folder() -> Path:
    """Folder of the PAW data sets (package gpaw-data)."""
    import gpaw_data

    return Path(gpaw_data.__file__).parent / "setups"


def problems() -> list[str]:
    """What does not work, one line each."""
    found = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken binary raises whatever it likes
            found.append(f"import {name}: {type(error).__name__}: {error}")
    for symbol in SPECIES:
        if not list(paw_folder().glob(f"{symbol}.PBE*")):
            found.append(f"no PAW data for {symbol} in {paw_folder()}")
    return found


def summary() -> str:
    """Versions, and what GPAW and torch can use."""
    import _gpaw
    import torch

    gpaw = [
        name
        for name, there in (
            ("MPI", hasattr(_gpaw, "Communicator")),
            ("ScaLAPACK", hasattr(_gpaw, "new_blacs_context")),
            ("FFTW", hasattr(_gpaw, "FFTWPlan")),
        )
        if there
    ]
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return (
        f"torch {version('torch')} on {device}, NequIP {version('nequip')}, OpenMM {version('openmm')}, "
        f"GPAW {version('gpaw')} with {', '.join(gpaw) or 'no MPI'}, Python {sys.version.split()[0]}"
    )


def main() -> int:
    found = problems()
    print("\n".join(found) if found else summary())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
