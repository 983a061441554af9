"""A potential leaves the house: one folder with the model, its card, its data, and what other programs need."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ase import Atoms

from clusterflow import __version__
from clusterflow.campaign.model_facts import campaign_facts, licences_told, model_facts, origins
from clusterflow.campaign.outputs import dataset
from clusterflow.campaign.session import read_config
from clusterflow.core.frames import read_frames, write_frames
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError
from clusterflow.exchange import examples, lammps
from clusterflow.exchange.dataset_file import write_dataset
from clusterflow.exchange.model_card import model_card
from clusterflow.exchange.psiflow_dataset import write_psiflow
from clusterflow.state.disk import temporary_name
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot, fold
from clusterflow.train.learners import load_potential
from clusterflow.train.model_folder import read_document

FORMS: Final = ("ase", "lammps", "openmm", "dataset", "psiflow", "card")
"""What can be asked for; the model folder itself always goes along."""
_COMPILED = "model_lammps.nequip.pt2"
_FROM_DATA = ("dataset", "psiflow")


@dataclass(slots=True)
class Source:
    """What is exported: a model folder and, if it came from a campaign, all that its run folder knows."""

    model: Path
    document: dict[str, Any]
    potential: Potential
    structures: dict[str, Atoms]
    campaign: CampaignFolder | None = None
    snapshot: Snapshot = field(default_factory=Snapshot)
    config: dict[str, Any] = field(default_factory=dict)
    frames: list[Atoms] = field(default_factory=list)

    @property
    def elements(self) -> tuple[str, ...]:
        """Of the model, in its order."""
        return tuple(self.document["elements"])


@dataclass(slots=True)
class Exported:
    """What was written (file → what it is), what was left out (form → why), and whose data has which licence."""

    folder: Path
    files: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)


def find_source(path: Path, structures: Sequence[Path] = ()) -> Source:
    """The potential in a run folder or model folder, with the structures of its campaign and those of the files.

    Raises
    ------
    InputError
        Nothing is there, no model yet, or a structure with elements that the model does not know.
    StateError
        The model, the journal or a label is damaged.
    """
    journal = (path / "journal.jsonl").is_file()
    folder = next((f for f in (path / "model", path) if (f / "model.json").is_file()), None)
    if folder is None:
        todo = "Give the run folder of a campaign, or a folder with model.json."
        if journal:
            todo = "Let the campaign finish (`clusterflow run` resumes it): the final potential is written at its end."
        raise InputError(
            f"There is no trained potential in '{path}': neither model.json nor model/model.json.",
            where=str(path.absolute()),
            todo=todo,
        )
    source = Source(folder, read_document(folder), load_potential(folder), {})
    if journal and folder != path:
        source.campaign = CampaignFolder(path.absolute())
        source.snapshot = fold(read_events(source.campaign.journal))
        source.config = dict(read_config(source.campaign))
        source.frames = dataset(source.campaign, source.snapshot)
        for system in source.config.get("systems", ()):
            kept = source.campaign.inputs / f"{system['name']}.extxyz"
            if kept.is_file():
                source.structures[str(system["name"])] = read_frames(kept)[0]
    for file in structures:
        atoms = read_frames(file)[0]
        lammps.require_known(atoms, source.elements)
        source.structures[file.stem] = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return source


def export(source: Source, output: Path, forms: Sequence[str], *, licence: str = "", compile: bool = True) -> Exported:
    """Writes the folder, complete or not at all. With no ``forms`` all that the source allows, else exactly these.

    ``licence`` of the potential, and of data whose system states none. ``compile``: NequIP's form for LAMMPS, where the
    model folder has none yet (minutes; needs a C++ compiler).

    Raises
    ------
    InputError
        An unknown form, or one that was asked for by name and cannot be made.
    TrainError
        The compiled form could not be made, or is not the model.
    """
    unknown = [f for f in forms if f not in FORMS]
    if unknown:
        raise InputError(f"There is no form '{unknown[0]}'.", todo=f"Choose from {', '.join(FORMS)}.")
    partial = temporary_name(output.absolute())
    done = Exported(output)
    try:
        shutil.copytree(source.model, partial / "model")
        done.files["model/"] = f"the potential, model_id {source.document['model_id'][:12]}"
        if source.structures:
            (partial / "structures").mkdir()
            for name, atoms in source.structures.items():
                write_frames(partial / "structures" / f"{name}.extxyz", [atoms])
        if {"dataset", "card"} & set(forms or FORMS):
            done.licences = licences_told(source.config, source.frames, licence)
        for form in forms or FORMS:
            reason = _impossible(form, source)
            if reason and forms:
                raise InputError(
                    f"The form '{form}' cannot be made: {reason}.",
                    where=str(source.model),
                    todo="Give the run folder of the campaign." if form in _FROM_DATA else "Add --structure FILE.",
                )
            if reason:
                done.left_out[form] = reason
                continue
            _make(form, source, partial, done, licence=licence, compile=compile)
        if source.campaign is not None and source.campaign.metrics.is_file():
            shutil.copyfile(source.campaign.metrics, partial / "metrics.json")
            done.files["metrics.json"] = "errors on the test set, for programs; `clusterflow property` shows them"
        _sums(partial)
        done.files["SHA256SUMS"] = "`sha256sum -c SHA256SUMS` verifies the folder"
        if output.exists():
            shutil.rmtree(output)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def _impossible(form: str, source: Source) -> str:
    """Why a form cannot be made; "" if it can."""
    if form in _FROM_DATA and not source.frames:
        return "there are no labels, since this is a model folder without its campaign"
    if form in ("ase", "openmm", "lammps") and not source.structures:
        return "there is no structure to show it on"
    return ""


def _make(form: str, source: Source, root: Path, done: Exported, *, licence: str, compile: bool) -> None:
    first = next(iter(source.structures), "")
    if form == "ase":
        (root / "ase_example.py").write_text(
            examples.ASE.format(structure=f"structures/{first}.extxyz"), encoding="utf-8"
        )
        done.files["ase_example.py"] = "ASE calculator"
    elif form == "openmm":
        (root / "openmm_example.py").write_text(
            examples.OPENMM.format(structure=f"structures/{first}.extxyz"), encoding="utf-8"
        )
        done.files["openmm_example.py"] = "OpenMM System"
    elif form == "lammps":
        _lammps(source, root, done, compile=compile)
    elif form == "dataset":
        about = {
            "name": source.config.get("name", ""),
            "made_by": f"clusterflow {__version__}",
            "licences": done.licences,
        }
        sheet = write_dataset(root / "dataset.extxyz", source.frames, origins(source.config, licence), about)
        sheet["sha256"] = hashlib.sha256((root / "dataset.extxyz").read_bytes()).hexdigest()
        (root / "dataset.json").write_text(json.dumps(sheet, indent=1, ensure_ascii=False), encoding="utf-8")
        done.files["dataset.extxyz"] = f"{len(source.frames)} labelled frames; dataset.json is its datasheet"
    elif form == "psiflow":
        (root / "psiflow").mkdir()
        write_psiflow(root / "psiflow" / "dataset.xyz", source.frames)
        (root / "psiflow" / "psiflow_example.py").write_text(examples.PSIFLOW, encoding="utf-8")
        done.files["psiflow/dataset.xyz"] = "the same for psiflow; `identifier` counts the frames of dataset.extxyz"
        done.files["psiflow/psiflow_example.py"] = "the potential as a Hamiltonian of psiflow"
    elif form == "card":
        (root / "README.md").write_text(_card(source, root, licence), encoding="utf-8")
        done.files["README.md"] = "model card"


def _card(source: Source, root: Path, licence: str) -> str:
    if source.campaign is None:
        card = model_facts(source.model, source.document, licence=licence)
    else:
        card = campaign_facts(
            source.campaign, source.snapshot, source.frames, source.config, source.document, licence=licence
        )
    names = ("model/model.json", "model/weights.safetensors", "dataset.extxyz")
    return model_card(replace(card, files={n: _sha256(root / n) for n in names if (root / n).is_file()}))


def _lammps(source: Source, root: Path, done: Exported, *, compile: bool) -> None:
    folder, margin = root / "lammps", float(source.potential.cutoff) + 2.0
    folder.mkdir()
    nequip = str(source.document.get("kind", "nequip")) == "nequip"
    compiled = _compiled(source, root, done, compile=compile) if nequip else False
    for name, atoms in source.structures.items():
        (folder / f"{name}.data").write_text(lammps.data_file(atoms, source.elements, margin=margin), encoding="utf-8")
        (folder / f"{name}.expected").write_text(
            lammps.expected_forces(atoms, source.elements, source.potential, margin=margin), encoding="utf-8"
        )
        done.files[f"lammps/{name}.data"] = "LAMMPS data; .expected has the forces it must give"
        if compiled:
            text = lammps.nequip_input(
                f"{name}.data", f"../model/{_COMPILED}", source.elements, periodic=atoms.pbc.all()
            )
            (folder / f"in.{name}").write_text(text, encoding="utf-8")
            done.files[f"lammps/in.{name}"] = "input for `pair_style nequip`"
    periodic = {name: bool(atoms.pbc.all()) for name, atoms in source.structures.items()}
    program = examples.LAMMPS.format(first=next(iter(periodic)), periodic=periodic, elements=source.elements)
    (folder / "run_in_lammps.py").write_text(program, encoding="utf-8")
    done.files["lammps/run_in_lammps.py"] = "dynamics in the LAMMPS of the package index, by `fix external`"
    if not nequip:
        done.left_out["lammps: pair_style"] = (
            "LAMMPS has no pair style for this linear potential (its functions are not those of SNAP); "
            "lammps/run_in_lammps.py runs it"
        )


def _compiled(source: Source, root: Path, done: Exported, *, compile: bool) -> bool:
    """Whether the exported model folder has NequIP's form for LAMMPS, made now if need be."""
    if (root / "model" / _COMPILED).is_file():
        return True
    why = "--no-compile was given"
    if compile:
        from clusterflow.train.nequip_export import export_final

        result = export_final(source.model, root / "compiling", list(source.structures.values()), ase=False)
        why = result["skipped"].get("lammps", "")
        for path in result["files"].values():
            shutil.move(path, root / "model" / Path(path).name)
        shutil.rmtree(root / "compiling")
    if why:
        done.left_out["lammps: pair_style nequip"] = f"{why}; lammps/run_in_lammps.py runs without it"
        return False
    done.files[f"model/{_COMPILED}"] = "compiled for `pair_style nequip` on this kind of machine"
    return True


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sums(root: Path) -> None:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    (root / "SHA256SUMS").write_text("".join(f"{_sha256(p)}  {p.relative_to(root)}\n" for p in files), encoding="utf-8")
