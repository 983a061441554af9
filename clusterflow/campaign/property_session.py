"""Opening a property run: structures and potential as they were when it began, checked before anything is computed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from clusterflow.campaign.inputs import kept_structure
from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.property_potential import Facts, calculator_facts, model_facts
from clusterflow.campaign.session import Held, owned_folder, read_config
from clusterflow.campaign.tasks import SystemInput
from clusterflow.config.potential import Calculator, Model
from clusterflow.config.properties import HeatCapacity, Property, PropertyRun, TorsionFreeEnergy
from clusterflow.config.sampling import VibrationalSpectrum
from clusterflow.config.section import to_json
from clusterflow.errors import ConfigError, InputError, StructureError
from clusterflow.evaluate.relaxation import require_crystal
from clusterflow.physics.torsions import check_torsions, positions_of_groups
from clusterflow.physics.vibrations import require_repeatable
from clusterflow.state.disk import make_folder, replace_bytes, temporary_name
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_folder
from clusterflow.state.snapshot import Snapshot

PropertySession = Held[PropertyInputs]


@contextlib.contextmanager
def open_property_session(
    config: PropertyRun, environment: Mapping[str, Any], only: Sequence[str] = ()
) -> Iterator[PropertySession]:
    """Opens (or resumes) a property run for as long as the context lasts; raises as `open_session` and
    `gather_property_inputs`."""
    require_chosen(config, only)

    def prepare(folder: CampaignFolder, _: Snapshot) -> tuple[PropertyInputs, str]:
        if read_config(folder) and not holds_properties(folder):
            raise ConfigError(
                "A campaign lives in this folder; a property run needs one of its own.",
                where=str(folder.root),
                todo="Give the property run another `name:` or `folder:`.",
            )
        inputs = gather_property_inputs(config, folder)
        return inputs, inputs.identity

    with owned_folder(config, environment, prepare) as held:
        yield held


def holds_properties(folder: CampaignFolder) -> bool:
    """Whether a property run lives in a folder, and not a campaign."""
    return "properties" in read_config(folder)


def require_chosen(config: PropertyRun, only: Sequence[str]) -> tuple[Property, ...]:
    """The properties of these names or kinds; raises InputError for a name that none has."""
    try:
        return config.chosen(tuple(only))
    except ValueError as error:
        raise InputError(
            f"No property is called '{error}'.",
            where=f"property run '{config.name}'",
            todo=f"There are {', '.join(p.name for p in config.properties)}; without a name all are computed.",
        ) from None


def gather_property_inputs(config: PropertyRun, folder: CampaignFolder | None = None) -> PropertyInputs:
    """Structures and potential; with a folder, the copies there, made the first time.

    Raises
    ------
    InputError, StructureError
        Files that cannot be used, an element that the potential does not know, a property of a crystal asked of what is
        none.
    StateError
        The model is damaged.
    """
    elements, told, identity, facts = _potential(config.potential, folder)
    structures = []
    for s in config.structures:
        atoms = kept_structure(s.system(), folder)
        _require_known(atoms, elements, s.name)
        structures.append(
            SystemInput(
                name=s.name,
                identity=s.system().identity(atoms),
                n_atoms=len(atoms),
                periodic=bool(atoms.pbc.all()),
                elements=tuple(sorted(set(atoms.get_chemical_symbols()))),
            )
        )
        for settings in config.properties:
            if not settings.structures or s.name in settings.structures:
                _require_possible(settings, atoms, s.name)
    return PropertyInputs(tuple(structures), identity, told, facts)


def property_structures(config: PropertyRun) -> dict[str, Atoms]:
    """The built structures by name; raises as `gather_property_inputs`."""
    return {s.name: s.atoms() for s in config.structures}


def _potential(
    section: Model | Calculator, folder: CampaignFolder | None
) -> tuple[tuple[str, ...], Mapping[str, Any], str, Facts]:
    """Elements that it knows (empty: cannot be told), what workers build it from, its identity, and facts about it."""
    if isinstance(section, Calculator):
        potential = section.build()
        potential.calculator()  # whether it can be built at all
        return (), to_json(section), str(potential.model_id), calculator_facts(section)
    from clusterflow.train.learners import load_potential
    from clusterflow.train.model_folder import FIRST_KIND, kind_of
    from clusterflow.train.nequip_model import read_config as read_model
    from clusterflow.train.nequip_model import read_document

    source = _model_folder(section, folder)
    nequip = kind_of(source) == FIRST_KIND
    known = read_model(source) if nequip else load_potential(source)
    document = read_document(source)
    identity = str(document["model_id"])
    facts: Facts = model_facts(section, source, document)
    if folder is not None:
        copy = folder.inputs / f"potential-{identity[:16]}"
        if not copy.is_dir():
            make_folder(folder.inputs)
            partial = temporary_name(copy)
            shutil.copytree(source, partial)
            publish_folder(partial, copy)
        facts = _kept_facts(facts, folder, own=source == copy)
    told: dict[str, Any] = {"kind": "model", "id": identity, "device": section.device}
    if not nequip:
        told["exact_hessian"] = False
    return tuple(known.elements), told, identity, facts


def _kept_facts(facts: Facts, folder: CampaignFolder, *, own: bool) -> Facts:
    """The facts as they were known when the potential was last seen where it was trained; ``own``: it is seen in the
    run folder, without what was around it."""
    kept = folder.inputs / f"potential-{facts['model_id'][:16]}.json"
    if own and kept.is_file():
        known: Facts = json.loads(kept.read_text(encoding="utf-8"))
        return known
    data = json.dumps(facts, indent=1, ensure_ascii=False).encode()
    if not kept.is_file() or kept.read_bytes() != data:
        replace_bytes(kept, data)
    return facts


def _model_folder(section: Model, folder: CampaignFolder | None) -> Path:
    """The user's, or the run's own copy if that is gone."""
    try:
        return section.model_folder()
    except InputError:
        copies = [p for p in folder.inputs.glob("potential-*") if p.is_dir()] if folder is not None else []
        if len(copies) != 1:
            raise
        return copies[0]


def _require_known(atoms: Atoms, elements: Sequence[str], name: str) -> None:
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements)) if elements else []
    if unknown:
        raise InputError(
            f"The potential does not know {', '.join(unknown)}; it knows {', '.join(elements)}.",
            where=f"structure '{name}', {atoms.get_chemical_formula()}",
            todo="Take another structure, or a potential that was trained on these elements.",
        )


def _require_possible(settings: Property, atoms: Atoms, name: str) -> None:
    if isinstance(settings, TorsionFreeEnergy):
        _require_torsions(settings, atoms, name)
        return
    try:
        if not isinstance(settings, (HeatCapacity, VibrationalSpectrum)):
            require_crystal(atoms)
            return
        for repeat in settings.repeats if isinstance(settings, HeatCapacity) else ():
            require_repeatable(atoms, repeat)
        if settings.relax in ("cell", "shape"):
            require_crystal(atoms)
    except InputError as error:
        raise InputError(
            error.what, where=f"property '{settings.name}' of structure '{name}'", todo=_without(settings, name)
        ) from error


def _require_torsions(settings: TorsionFreeEnergy, atoms: Atoms, name: str) -> None:
    walls = [w["atoms"] for w in settings.walls_json()]
    try:
        check_torsions(atoms, settings.torsions, walls)
        positions_of_groups(atoms, [*settings.torsions, *walls])
    except StructureError as error:
        where = f"property '{settings.name}' of structure '{name}', {atoms.get_chemical_formula()}"
        raise StructureError(error.what, where=where, todo=error.todo) from error


def _without(settings: Property, name: str) -> str:
    return (
        f"Leave it out (`structures:` of {settings.name} lists which it is computed for), or give '{name}' a cell "
        "and pbc in its file."
    )
