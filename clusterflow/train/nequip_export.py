"""Packages a trained model with NequIP's own tools for ASE and LAMMPS, and proves that the results are the same model.

NequIP's tools read a Lightning checkpoint, which this module writes from the model folder (as if training had ended
there) in a private folder and removes again. The compiled forms come from PyTorch's AOTInductor and need a C++
compiler.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError, StateError, TrainError
from clusterflow.train import nequip_model
from clusterflow.train.nequip_potential import NequIPPotential

ENERGY_TOLERANCE_EV_PER_ATOM = 1e-4
FORCE_TOLERANCE_EV_PER_A = 1e-3
"""Largest differences to the eager model allowed in float32; rounding gives about a hundredth of them."""

_TARGETS = {"ase": "ase", "lammps": "pair_nequip"}

Predictor = Callable[[Atoms], tuple[float, Any]]


def export_final(
    model_folder: Path,
    workdir: Path,
    test_frames: Sequence[Atoms],
    *,
    ase: bool = True,
    lammps: bool = True,
    time_limit: float = 1800.0,
) -> dict[str, Any]:
    """Writes ``workdir/model.nequip.zip`` (NequIP's archive format) and, compiled for the CPU,
    ``model_ase.nequip.pt2`` (`NequIPCalculator.from_compiled_model`) and ``model_lammps.nequip.pt2`` (LAMMPS
    `pair_style nequip`); loads each of them again and compares energies and forces with the eager model.

    Returns JSON data: "model_id", "files" (name → path), "differences" (name → largest differences
    "energy_eV_per_atom" and "force_eV_per_A"), "tolerances", "seconds" per step, "skipped" (name → reason, where the
    compiler is missing). ``time_limit`` in s for each tool.

    Raises
    ------
    InputError
        No test frames.
    StateError
        The model folder is damaged.
    TrainError
        A tool failed or ran out of time, or a result differs from the eager model.
    """
    if not test_frames:
        raise InputError("There are no frames to compare the packaged model on.", todo="Give at least one structure.")
    eager = NequIPPotential.load(model_folder, device="cpu")
    expected = eager.predict(test_frames)
    workdir.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "model_id": eager.model_id,
        "files": {},
        "differences": {},
        "tolerances": {
            "energy_eV_per_atom": ENERGY_TOLERANCE_EV_PER_ATOM,
            "force_eV_per_A": FORCE_TOLERANCE_EV_PER_A,
        },
        "seconds": {},
        "skipped": {},
    }
    # A folder of our own (mode 0700): what is unpickled for the check below is what was written a moment before.
    private = Path(tempfile.mkdtemp(prefix=".export-", dir=workdir))
    try:
        package = private / "model.nequip.zip"
        checkpoint = _write_checkpoint(model_folder, private, _periodic_example(test_frames, eager.cutoff))
        begun = time.monotonic()
        _run([_tool("nequip-package"), "build", str(checkpoint), str(package)], private, time_limit)
        _accept("package", package, _packaged(package), workdir, test_frames, expected, result, begun)
        for name, wanted in (("ase", ase), ("lammps", lammps)):
            if not wanted:
                continue
            if reason := _no_compiler():
                result["skipped"][name] = reason
                continue
            compiled, begun = private / f"model_{name}.nequip.pt2", time.monotonic()
            options = ["--mode", "aotinductor", "--device", "cpu", "--target", _TARGETS[name]]
            source = workdir / "model.nequip.zip"
            _run([_tool("nequip-compile"), str(source.absolute()), str(compiled), *options], private, time_limit)
            predictor = _compiled_for_ase(compiled) if name == "ase" else _compiled_for_lammps(compiled, eager)
            _accept(name, compiled, predictor, workdir, test_frames, expected, result, begun)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return result


def _accept(
    name: str,
    file: Path,
    predictor: Predictor,
    workdir: Path,
    frames: Sequence[Atoms],
    expected: Sequence[Prediction],
    result: dict[str, Any],
    begun: float,
) -> None:
    """Compares, then moves the file to its final place and writes down what was found."""
    energy, force = compare(predictor, frames, expected)
    if not (energy <= ENERGY_TOLERANCE_EV_PER_ATOM and force <= FORCE_TOLERANCE_EV_PER_A):
        raise TrainError(
            f"The model packaged for '{name}' is not the trained one: energies differ by up to {energy:.3g} eV/atom "
            f"(allowed {ENERGY_TOLERANCE_EV_PER_ATOM:g}), forces by {force:.3g} eV/Å "
            f"(allowed {FORCE_TOLERANCE_EV_PER_A:g}) on {len(frames)} frames.",
            where=str(workdir),
            todo="Use the model folder itself (clusterflow's calculator) and report the versions of torch and nequip.",
        )
    target = workdir / file.name
    file.replace(target)
    result["files"][name] = str(target)
    result["differences"][name] = {"energy_eV_per_atom": energy, "force_eV_per_A": force}
    result["seconds"][name] = round(time.monotonic() - begun, 2)


def compare(predictor: Predictor, frames: Sequence[Atoms], expected: Sequence[Prediction]) -> tuple[float, float]:
    """Largest differences in energy per atom (eV) and in a force component (eV/Å); NaN where a result is not finite."""
    energies, forces = [], []
    for atoms, reference in zip(frames, expected, strict=True):
        energy, force = predictor(atoms)
        energies.append(abs(energy - reference.energy) / len(atoms))
        forces.append(float(np.max(np.abs(np.asarray(force) - reference.forces))))
    return float(np.max(energies)), float(np.max(forces))


def _periodic_example(frames: Sequence[Atoms], cutoff: float) -> Atoms:
    """A bare periodic frame to trace the model with: on a finite one the compiler's own check meets a stress of NaN."""
    whole = [a for a in frames if a.pbc.all() and len(a) > 3]
    if whole:
        return Atoms(whole[0].numbers, whole[0].positions, cell=whole[0].cell, pbc=True)
    largest = max(frames, key=len)
    example = Atoms(largest.numbers, largest.positions)
    while len(example) <= 3:  # NequIP looks for a frame of more than three atoms
        copy = example.copy()
        copy.positions += [0.0, 0.0, float(np.ptp(example.positions[:, 2])) + 1.5]
        example = example + copy
    example.center(vacuum=cutoff)
    example.pbc = True
    return example


def _write_checkpoint(model_folder: Path, folder: Path, example: Atoms) -> Path:
    """A Lightning checkpoint of the model such as `nequip-train` leaves, and the example file it refers to."""
    import torch
    from lightning import __version__ as lightning_version
    from nequip.train import NequIPLightningModule
    from nequip.utils import get_current_code_versions

    config = nequip_model.read_config(model_folder)
    frame = folder / "example.extxyz"
    write(frame, example, format="extxyz")
    cutoff, elements = config.settings.r_max, list(config.elements)
    data = {  # the tools run in this folder: no path of this machine goes into the package
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 0,
        "train_file_path": frame.name,
        "val_file_path": frame.name,
        "transforms": [
            {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": elements},
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": cutoff},
        ],
    }
    target = {"_target_": "nequip.train.NequIPLightningModule"}
    model = {"_target_": "nequip.model.NequIPGNNModel", "seed": 0, **nequip_model.builder_arguments(config)}
    hyperparameters = {
        "model": model,
        "num_datasets": {"train": 1, "val": 1, "test": 0, "predict": 0},
        "info_dict": {
            "versions": get_current_code_versions(verbose=False),
            "data": data,
            "training_module": target,
            "clusterflow_model_id": nequip_model.read_document(model_folder)["model_id"],
        },
    }
    nequip_model.build_model(config)  # sets NequIP's global state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = NequIPLightningModule(**hyperparameters)
    inner = next(iter(module.evaluation_model.values()))
    nequip_model.load_weights(inner, nequip_model.read_weights(model_folder, config), where=str(model_folder))
    path = folder / "model.ckpt"
    torch.save(
        {
            "state_dict": module.state_dict(),
            "hyper_parameters": hyperparameters,
            "pytorch-lightning_version": lightning_version,
            "epoch": 0,
            "global_step": 0,
        },
        path,
    )
    return path


def _tool(name: str) -> str:
    """One of NequIP's command-line tools, from the environment that this Python runs in."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise StateError(
            f"NequIP's tool '{name}' is not beside this Python.",
            where=str(path),
            todo="Install nequip in this environment (pip install 'nequip>=0.19.1,<0.20').",
        )
    return str(path)


def _no_compiler() -> str:
    """Why nothing can be compiled here; "" if it can."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler: '{compiler}' is not on the PATH (apt-get install g++)"
    return ""


def _run(arguments: list[str], folder: Path, time_limit: float) -> None:
    """Runs a tool to its end in a process group of its own; its output goes to the error if it fails."""
    log = folder / "tool.log"
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TMPDIR": str(folder)}
    with log.open("w") as file:
        process = subprocess.Popen(
            arguments, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(timeout=time_limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TrainError(
                    f"{Path(arguments[0]).name} did not end within {time_limit:g} s.",
                    where=" ".join(arguments),
                    todo="Give it more time, or leave this target out: the model folder itself is complete.",
                ) from error
            raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise TrainError(
            f"{Path(arguments[0]).name} failed with exit code {code}:\n{tail}",
            where=" ".join(arguments),
            todo="The model folder itself is complete; leave this target out, or mend what the tool complains about.",
        )


def _packaged(package: Path) -> Predictor:
    """NequIP's own ASE calculator on the package."""
    from nequip.integrations.ase import NequIPCalculator

    return _calculator(
        lambda: NequIPCalculator._from_saved_model(package, device="cpu", chemical_species_to_atom_type_map=True)
    )


def _compiled_for_ase(file: Path) -> Predictor:
    """NequIP's own ASE calculator on the compiled model."""
    from nequip.integrations.ase import NequIPCalculator

    return _calculator(
        lambda: NequIPCalculator.from_compiled_model(file, device="cpu", chemical_species_to_atom_type_map=True)
    )


def _calculator(make: Callable[[], Any]) -> Predictor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = make()

    def predict(atoms: Atoms) -> tuple[float, Any]:
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = calculator
        return float(bare.get_potential_energy()), bare.get_forces()

    return predict


def _compiled_for_lammps(file: Path, eager: NequIPPotential) -> Predictor:
    """The compiled model called as `pair_style nequip` calls it: per-atom energies are summed outside."""
    import torch
    from matscipy.neighbours import neighbour_list
    from nequip.model.inference_models import load_compiled_model
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT

    from clusterflow.train.dataset import type_indices

    target = COMPILE_TARGET_DICT[_TARGETS["lammps"]]
    model, _ = load_compiled_model(str(file), "cpu", list(target["input"]), list(target["output"]))

    def predict(atoms: Atoms) -> tuple[float, Any]:
        cell = np.array(atoms.cell.complete()) if atoms.pbc.any() else np.eye(3) * 1e3
        i, j, shifts = neighbour_list("ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=eager.cutoff)
        out = model(
            {
                "pos": torch.tensor(atoms.positions),
                "edge_index": torch.tensor(np.stack((i, j)).astype(np.int64)),
                "atom_types": torch.from_numpy(type_indices(atoms, eager.elements)),
                "cell": torch.tensor(cell).reshape(1, 3, 3),
                "edge_cell_shift": torch.tensor(shifts.astype(np.float64)),
            }
        )
        return float(out["atomic_energy"].sum()), out["forces"].detach().numpy()

    return predict
