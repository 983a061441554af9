"""What a campaign starts from, besides its configuration: built structures, seed dataset, level of theory.

They are copied into the run folder when the campaign is opened, so that a resumed campaign sees what it began with,
whatever has happened to the user's files since.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ase import Atoms

from clusterflow.campaign.tasks import Inputs, SystemInput
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import BuildingBlocks, Certified
from clusterflow.config.section import to_json
from clusterflow.config.start import Dataset
from clusterflow.config.systems import System
from clusterflow.core.frames import canonical_json, content_hash, digest, read_frames, write_frames
from clusterflow.errors import ConfigError, StructureError
from clusterflow.state.disk import make_folder, replace_bytes, replace_file
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.recipe import read_recipe, recipe_bytes

_DATASET = "dataset.extxyz"


def gather_inputs(config: Campaign, folder: CampaignFolder | None = None) -> tuple[Inputs, dict[str, Atoms]]:
    """Builds and checks every system; with a folder, reads the copies there and adds what is missing.

    Raises
    ------
    InputError, StructureError
        Structures or seed dataset that cannot be used, elements without PAW data, no bonds across the cell.
    ConfigError
        A system that the campaign already knows was changed.
    """
    structures = {s.name: kept_structure(s, folder) for s in config.systems}
    reference = config.label.build()
    frames = _seed_dataset(config, reference.level_of_theory, folder)
    found = {e for a in (*structures.values(), *frames) for e in a.get_chemical_symbols()}
    elements = sorted(found | config.extract.added_elements())
    if hasattr(reference, "check_elements"):
        reference.check_elements(elements)
    if isinstance(config.extract, (BuildingBlocks, Certified)):
        _check_blocks(structures)
    if config.controls is not None and "periodic" in config.controls.arms:
        _check_cells(structures, config.controls.max_atoms)
    start_model, elements = _start_model(config, elements, folder)
    systems = tuple(
        SystemInput(
            name=s.name,
            identity=s.identity(structures[s.name]),
            n_atoms=len(structures[s.name]),
            periodic=bool(structures[s.name].pbc.all()),
            elements=tuple(sorted(set(structures[s.name].get_chemical_symbols()))),
        )
        for s in config.systems
    )
    dataset = digest(*(content_hash(a) for a in frames))[:16] if frames else ""
    return Inputs(systems, reference.level_of_theory, tuple(elements), dataset, start_model), structures


def kept_structure(system: System, folder: CampaignFolder | None) -> Atoms:
    """The built structure: the copy in the run folder, which is made the first time; raises as `gather_inputs`."""
    if folder is None:
        return system.atoms()
    copy, recipe = folder.inputs / f"{system.name}.extxyz", folder.inputs / f"{system.name}.json"
    told = {"build": to_json(system)["build"], "structure": str(system.structure)}
    if copy.is_file() and recipe.is_file():
        before = read_recipe(recipe, copy)
        if before["build"] != told["build"]:
            raise ConfigError(
                f"System '{system.name}' was built otherwise when this campaign began.",
                where=f"before: {before['build']}; now: {told['build']}",
                todo="Give the changed structure a name of its own under `systems:`, or start another campaign.",
            )
        kept = read_frames(copy)[0]
        if before["structure"] != told["structure"] and content_hash(system.atoms()) != content_hash(kept):
            raise ConfigError(
                f"System '{system.name}' had another structure when this campaign began.",
                where=f"before: {before['structure']}; now: {told['structure']}",
                todo="Give the new structure a name of its own under `systems:`, or start another campaign.",
            )
        return kept
    atoms = system.atoms()
    make_folder(folder.inputs)
    partial = copy.with_suffix(".part")
    write_frames(partial, [atoms])
    record = recipe_bytes(told, partial)
    replace_file(partial, copy)
    replace_bytes(recipe, record)
    return read_frames(copy)[0]  # as every worker will read it


def _seed_dataset(config: Campaign, level: str, folder: CampaignFolder | None) -> list[Atoms]:
    if not isinstance(config.start, Dataset):
        return []
    if folder is None:
        return config.start.frames(level)
    copy, source = folder.inputs / _DATASET, folder.inputs / "dataset_source.txt"
    if copy.is_file() and source.is_file() and source.read_text(encoding="utf-8") != str(config.start.file):
        old, new = read_frames(copy), config.start.frames(level)
        if [content_hash(a) for a in old] != [content_hash(a) for a in new]:
            raise ConfigError(
                "This campaign began with another seed dataset.",
                where=f"before: {source.read_text(encoding='utf-8')}; now: {config.start.file}",
                todo="Start another campaign for it (another `name:`).",
            )
    if not copy.is_file():
        config.start.frames(level)
        make_folder(folder.inputs)
        partial = copy.with_suffix(".part")
        shutil.copyfile(config.start.file, partial)
        replace_file(partial, copy)
        replace_bytes(source, str(config.start.file).encode())
    return config.start.model_copy(update={"file": copy}).frames(level)


def _check_cells(structures: Mapping[str, Atoms], max_atoms: int) -> None:
    """Returns if a control arm may have whole cells labelled."""
    for name, atoms in structures.items():
        if not atoms.pbc.all():
            raise ConfigError(
                f"The control arm `periodic` labels whole periodic cells; system '{name}' is not periodic.",
                where="`controls.arms:`",
                todo="Leave the arm out; `random` and `farthest_point` cut fragments.",
            )
        if len(atoms) > max_atoms:
            raise ConfigError(
                f"The control arm `periodic` would have cells of {len(atoms)} atoms labelled (system '{name}'); "
                f"controls.max_atoms is {max_atoms}.",
                where="`controls:`",
                todo="Leave the arm out, or raise `controls.max_atoms` if the level of theory can label them.",
            )


def _start_model(config: Campaign, elements: list[str], folder: CampaignFolder | None) -> tuple[str, list[str]]:
    """Identity of the model that is fine-tuned ("": none), and the elements of the potential: all that it knows."""
    from clusterflow.train.model_folder import read_document
    from clusterflow.train.start_model import import_start_model

    source = config.train.start_from
    if source is None:
        return "", elements
    learner = {"kind": config.train.kind, "model": config.train.build_model().to_json()}
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="clusterflow-start-model-") as scratch:
            identity, known = import_start_model(source, Path(scratch) / "model", elements=elements, **learner)
        return identity, list(known)
    told = folder.inputs / "start_model.json"
    record = canonical_json({"source": str(source), **learner}).encode()
    if not (folder.start_model.is_dir() and told.is_file() and told.read_bytes() == record):
        with tempfile.TemporaryDirectory(prefix="clusterflow-start-model-") as scratch:
            identity, _ = import_start_model(source, Path(scratch) / "model", elements=elements, **learner)
            if folder.start_model.is_dir() and read_document(folder.start_model)["model_id"] != identity:
                raise ConfigError(
                    "This campaign began with another model to start from.",
                    where=str(folder.start_model),
                    todo="Set `train: {start_from: …}` back, or start another campaign (another `name:`).",
                )
            make_folder(folder.inputs)
            partial = folder.start_model.with_name("start_model.part")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(Path(scratch) / "model", partial)
            shutil.rmtree(folder.start_model, ignore_errors=True)
            partial.rename(folder.start_model)
        replace_bytes(told, record)
    document = read_document(folder.start_model)
    return str(document["model_id"]), list(document["elements"])


def _check_blocks(structures: Mapping[str, Atoms]) -> None:
    from clusterflow.extract.soundness import check_structure
    from clusterflow.physics.bonds import bond_graph
    from clusterflow.physics.building_blocks import find_blocks

    for name, atoms in structures.items():
        try:
            graph = bond_graph(atoms)
            find_blocks(atoms, graph)
            check_structure(atoms, graph)
        except StructureError as error:
            raise StructureError(error.what, where=f"system '{name}'", todo=error.todo) from error
