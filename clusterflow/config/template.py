"""The commented campaign file that `clusterflow new` writes."""

from __future__ import annotations

import re
from pathlib import Path

from ase import Atoms

from clusterflow.core.frames import formula

_TEXT = """\
# A clusterflow campaign for {formula} ({n_atoms} atoms{periodic}).
# Quantities carry units. What is left out has a default, mostly that of Dobbelaere et al. 2025 (arXiv:2504.03881);
# docs/reference/configuration.md says which. `clusterflow check {file}` validates and estimates,
# `clusterflow run {file}` runs and, after any interruption, resumes.
name: {name}
seed: 1                       # every random choice follows from it

systems:                      # several materials train one potential
  - name: {system}
    structure: {structure}
    # source: 10.1234/abcd    # where the structure comes from: a DOI, a database code …
    # licence: CC-BY-4.0      # … and under which licence it may be passed on: for exported data and the model card
    ensemble: {ensemble}
    # build:                  # changes made to the structure first
    #   - {{kind: missing_linker, count: 1}}
    #   - {{kind: supercell, repeat: [1, 1, 2]}}

start:                        # the first labels: fragments of perturbed structures
  kind: perturbed             # or `dataset`, with `file: seed.extxyz`
  fragments: 20
  test_fragments: 10          # held out, frozen, never trained on
  displacement: [0.02 Å, 0.10 Å]
  strain: 0.02

explore:                      # dynamics with the current potential
  kind: openmm                # or `ase`
  walkers: 10
  steps: {{first: 200, growth: 2, maximum: 1000}}

score:                        # novelty: Gaussian mixture per element over the last hidden layer
  components: [1, 10]
  # kind: committee           # instead: what several potentials disagree on; see `committee:` below

select:
  ranking: least_likely_atom  # or sum_below_threshold, mean_without_h, per_cost, coverage
  fragments: 20               # labels per iteration

extract:
{extract}

label:                        # one level of theory for the whole campaign
  kind: gpaw                  # or `xtb` (GFN1-xTB, GFN2-xTB) or `ase` (any ASE calculator)
  preset: quick               # small LCAO level to try things out; `paper` is fd, h 0.175 Å, PBE-D3(BJ)
  ranks: 1                    # MPI ranks per label
  time_limit: 2 h

train:
  model: {{preset: base}}       # Table SI.1: base, extended; `small` for two CPU cores
  core_only: false            # true masks the forces of mantle and termination atoms
  # kind: linear              # or a linear potential, fitted in seconds on one core; leave `model:` out
  # committee: 4              # with `score: {{kind: committee}}`: so many potentials instead of one

stop:                         # whichever comes first
  iterations: 5
  # labels: 200
  # core_hours: 500
  # test_mae_p95: 60 meV/Å

machine: local                # or a machine file, see hpc/
"""

_BLOCKS = """\
  kind: building_blocks       # nodes (metals and what joins them), linkers, free molecules
  mantle: {node: neighbours, linker: neighbours}   # also: none, linkers, anchors, '2 shells', a radius such as 4 Å
  # kind: certified           # or the cheapest fragments that keep the force error below `tolerance: 100 meV/Å`;
  #                           # `mantle:` and the like then go under `start:`
  # kind: sphere              # or all atoms within `radius: 5 Å`, for dense covalent solids
  # kind: whole               # or no cutting"""
_WHOLE = """\
  kind: whole                 # no cutting: each selected frame is labelled as it is
  # kind: sphere              # or all atoms within `radius: 5 Å`, for dense covalent solids
  # kind: building_blocks     # or nodes, linkers and molecules; kind: certified chooses among such fragments"""


def campaign_template(structure: Path, atoms: Atoms, *, name: str, file: str, blocks: bool) -> str:
    """YAML text for this structure; ``blocks`` says whether it has building blocks to cut."""
    periodic = bool(atoms.pbc.all())
    return _TEXT.format(
        formula=formula(atoms),
        n_atoms=len(atoms),
        periodic=", periodic" if periodic else "",
        name=name,
        file=file,
        system=identifier(structure.stem),
        structure=structure,
        ensemble="{kind: npt, temperature: 600 K, pressure: [-1.5 GPa, 1.5 GPa]}"
        if periodic
        else "{kind: nvt, temperature: 600 K}",
        extract=_BLOCKS if blocks else _WHOLE,
    )


def identifier(text: str) -> str:
    """A name that the campaign file accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:40] or "system"
