"""What a campaign ran on: versions, hardware and settings, recorded once per run. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

import clusterflow
from clusterflow.execution.machines import available_cores, available_gpus

PACKAGES: Final = (
    "ase",
    "dftd3",
    "e3nn",
    "gpaw",
    "gpaw-data",
    "matscipy",
    "mpi4py",
    "nequip",
    "numpy",
    "openmm",
    "parsl",
    "pydantic",
    "pyzmq",
    "scikit-learn",
    "scipy",
    "sphericart",
    "tblite",
    "torch",
)
"""Packages whose version can change a result or the way it is computed."""

_ALLOWED = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "OPENMM_DEFAULT_PLATFORM", "GPAW_SETUP_PATH")
_ALLOWED_PREFIXES = ("OMP_", "SLURM_JOB_")
_REFUSED = ("TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL")


def is_secret(name: str) -> bool:
    """Whether the value of an environment variable is not to be shown or recorded, by its name."""
    return any(word in name.upper() for word in _REFUSED)


def environment() -> dict[str, Any]:
    """Versions, computer and settings as JSON data. What cannot be found out is "" or missing; nothing is raised.

    Of the environment variables only those on a list are kept, since others may hold secrets.
    """
    return {
        "clusterflow": clusterflow.__version__,
        "commit": _commit(Path(clusterflow.__file__).parent),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "system": {
            "platform": platform.platform(),
            "host": platform.node(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count() or 0,
            "cores_available": available_cores(),
            "memory_GB": round(psutil.virtual_memory().total / 1e9, 1),
            "gpus": _gpu_names(),
            "gpus_available": available_gpus(),
        },
        "build": _gpaw_build(),
        "variables": allowed_variables(os.environ),
    }


def allowed_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Those environment variables that may be written down: threads, GPUs and the job they ran in."""
    return {
        name: value
        for name, value in sorted(variables.items())
        if (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)) and not is_secret(name)
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit(package: Path) -> str:
    """Commit of the checkout that the package lies in, with "+changes" if files of it differ; "" if there is none."""
    if not (package.parent / ".git").exists() or shutil.which("git") is None:
        return ""
    commit = _output(["git", "-C", str(package.parent), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(package.parent), "status", "--porcelain", "--", str(package)])
    return commit + ("+changes" if commit and changed else "")


def _output(command: list[str]) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware", "cpu model")):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpu_names() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    return _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()


def _gpaw_build() -> dict[str, Any]:
    """What GPAW was linked with, as far as files tell: importing it would take a second and may start MPI."""
    found: dict[str, Any] = {"mpirun": shutil.which("mpirun") or ""}
    try:
        files = metadata.distribution("gpaw").files or []
    except metadata.PackageNotFoundError:
        return found
    library = next((Path(str(f.locate())) for f in files if f.name.startswith("_gpaw.") and f.suffix == ".so"), None)
    if library is not None and shutil.which("ldd") is not None:
        linked = [line.split()[0] for line in _output(["ldd", str(library)]).splitlines() if line.strip()]
        wanted = ("libmpi", "libxc", "openblas", "libblas", "mkl", "libscalapack", "libelpa", "libfftw", "libvdwxc")
        found["gpaw_links"] = sorted(name for name in linked if any(w in name for w in wanted))
    return found
