"""Writes the siteconfig.py that GPAW is compiled with, from what this machine really has.

A library counts as present only when a small program that uses it compiles and links; an installed package without its
headers, or an MPI whose ScaLAPACK belongs to another MPI, does not. Standard library only: it runs before anything is
installed.

Usage: python gpaw_siteconfig.py (OUTPUT | --probe) [--no-mpi]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

XC = "#include <xc.h>\nint main() { int a, b, c; xc_version(&a, &b, &c); return 0; }\n"
BLAS = (
    'extern "C" double dnrm2_(int*, double*, int*);\n'
    "int main() { int n = 1; double v = 1; return dnrm2_(&n, &v, &n) < 0; }\n"
)
FFTW = "#include <fftw3.h>\nint main() { fftw_free(fftw_malloc(8)); return 0; }\n"
MPI = "#include <mpi.h>\nint main(int n, char** v) { MPI_Init(&n, &v); MPI_Finalize(); return 0; }\n"
SCALAPACK = (
    'extern "C" { void Cblacs_pinfo(int*, int*); int numroc_(int*, int*, int*, int*, int*); }\n'
    "int main() { int a = 1, b = 0; Cblacs_pinfo(&a, &b); return numroc_(&a, &a, &b, &b, &a); }\n"
)

Probe = Callable[[str, str, Sequence[str]], bool]


def links(compiler: str, source: str, libraries: Sequence[str]) -> bool:
    """True if ``source`` compiles and links with ``compiler`` against ``libraries``."""
    if shutil.which(compiler) is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "probe.cpp"
        program.write_text(source)
        command = [compiler, str(program), "-o", str(Path(folder) / "probe"), *(f"-l{name}" for name in libraries)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def find(*, mpi: bool = True, probe: Probe = links) -> dict[str, str]:
    """What was found: keys "compiler", "xc", "blas", "fftw", "mpi", "scalapack"; "" where it is missing.

    The value is the library's name, for "mpi" the wrapper compiler. "scalapack" needs "mpi".
    """
    found = dict.fromkeys(("compiler", "xc", "blas", "fftw", "mpi", "scalapack"), "")
    found["compiler"] = next((name for name in ("g++", "c++", "clang++") if probe(name, "int main() {}\n", ())), "")
    compiler = found["compiler"]
    if not compiler:
        return found
    found["xc"] = "xc" if probe(compiler, XC, ("xc",)) else ""
    found["blas"] = next((name for name in ("openblas", "blas") if probe(compiler, BLAS, (name,))), "")
    found["fftw"] = "fftw3" if probe(compiler, FFTW, ("fftw3",)) else ""
    if mpi and shutil.which("mpirun") and probe("mpic++", MPI, ()):
        found["mpi"] = "mpic++"
        names = ("scalapack-openmpi", "scalapack")
        found["scalapack"] = next((name for name in names if probe("mpic++", SCALAPACK, (name,))), "")
    return found


def siteconfig(found: dict[str, str]) -> str:
    """The text of siteconfig.py for what `find` found."""
    libraries = [found[key] for key in ("xc", "blas", "fftw", "scalapack") if found[key]]
    return "\n".join(
        [
            f"compiler = {(found['mpi'] or found['compiler'])!r}",
            f"mpi = {bool(found['mpi'])}",
            f"fftw = {bool(found['fftw'])}",
            f"scalapack = {bool(found['scalapack'])}",
            f"libraries = {libraries!r}",
            "",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Prints what was found on one line; writes the file unless asked to probe only.

    Exit status 1 when something is missing that GPAW cannot do without.
    """
    found = find(mpi="--no-mpi" not in arguments)
    print(" ".join(f"{key}={value or 'none'}" for key, value in found.items()))
    if not all(found[key] for key in ("compiler", "xc", "blas")):
        return 1
    if "--probe" not in arguments:
        Path(arguments[0]).write_text(siteconfig(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
