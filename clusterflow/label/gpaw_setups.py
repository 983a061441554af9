"""Which PAW datasets GPAW would use, found by its own search, without starting a calculation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from clusterflow.core.frames import digest
from clusterflow.errors import InputError

_INSTALL = "Install it with `pip install 'clusterflow[gpaw]'` (needs libxc and a BLAS library)."


@lru_cache(maxsize=1)
def setups_identity() -> tuple[str, str]:
    """GPAW's major version and a name for its PAW data, e.g. ("26", "gpaw-data-1.2.1").

    A set of one's own (GPAW_SETUP_PATH) is named by a hash of its file names and sizes.

    Raises
    ------
    InputError
        GPAW is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        major = version("gpaw").split(".")[0]
    except PackageNotFoundError as error:
        raise InputError("GPAW is not installed here.", todo=_INSTALL) from error
    own = os.environ.get("GPAW_SETUP_PATH", "")
    folders = [Path(p) for p in own.split(os.pathsep) if p and Path(p).is_dir()]
    if folders:
        files = sorted((f.name, f.stat().st_size) for folder in folders for f in folder.iterdir() if f.is_file())
        return major, f"own-{digest(*(f'{n}:{s}' for n, s in files))[:10]}"
    try:
        return major, f"gpaw-data-{version('gpaw-data')}"
    except PackageNotFoundError:
        return major, "none"


def check_datasets(symbols: Iterable[str], xc: str, basis: str | None) -> None:
    """Raises `InputError` with the elements that have no PAW dataset for ``xc`` or (lcao) no basis set."""
    try:
        from gpaw.setup_data import search_for_file
        from gpaw.xc import XC
    except ImportError as error:
        raise InputError(f"GPAW cannot be imported: {error}", todo=_INSTALL) from error
    try:
        dataset = XC(xc).get_setup_name()
    except Exception as error:  # GPAW and libxc raise several kinds for an unknown name
        raise InputError(
            f"GPAW does not know the functional '{xc}': {error}", todo="Use its name there, for example PBE or RPBE."
        ) from error
    endings = [dataset]
    if basis is not None:
        inner = re.search(r"\(([^)]+)\)", basis)  # "szp(dzp)" is cut out of the file of dzp
        endings.append(f"{inner.group(1) if inner else basis}.basis")
    missing: dict[str, list[str]] = {}
    for ending in endings:
        for symbol in sorted(set(symbols)):
            try:
                search_for_file(f"{symbol}.{ending}")
            except FileNotFoundError:
                missing.setdefault(symbol, []).append(ending)
    if missing:
        raise InputError(
            "GPAW has no PAW data for "
            + ", ".join(f"{s} ({', '.join(f'{s}.{e}' for e in ends)})" for s, ends in missing.items())
            + ".",
            where="GPAW_SETUP_PATH=" + os.environ.get("GPAW_SETUP_PATH", "(not set; the gpaw-data package is used)"),
            todo="Choose another functional or basis, put such a dataset on GPAW_SETUP_PATH, "
            "or label systems with these elements at another level (xtb, ase).",
        )
