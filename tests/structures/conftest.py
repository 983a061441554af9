"""Frameworks on which the builders are tried: real ones, one made longer, one with tritopic linkers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from clusterflow.structures.net import centres, find_net

ROOT = Path(__file__).parents[2]
STRUCTURES = ROOT / "configs" / "structures"


@pytest.fixture(scope="session")
def uio66() -> Atoms:
    return read(STRUCTURES / "UiO-66_conventional.extxyz")


@pytest.fixture(scope="session")
def uio66_primitive() -> Atoms:
    return read(STRUCTURES / "UiO-66_primitive.extxyz")


@pytest.fixture(scope="session")
def mof5() -> Atoms:
    return read(STRUCTURES / "MOF-5_primitive.extxyz")


@pytest.fixture(scope="session")
def irmof10() -> Atoms:
    return read(ROOT / "tests" / "data" / "IRMOF-10_primitive.extxyz")


@pytest.fixture(scope="session")
def uio67(uio66: Atoms) -> Atoms:
    """UiO-66 with every ring doubled to a planar biphenyl (C–C 1.48 Å) and the cell stretched to fit."""
    net = find_net(uio66)
    blocks, cell = net.blocks, uio66.cell.array
    ring = blocks.members(int(net.linkers[0]))
    whole = uio66.positions + blocks.offsets @ cell
    para = max(
        np.linalg.norm(whole[a] - whole[b]) for a in ring for b in ring if uio66.numbers[[a, b]].tolist() == [6, 6]
    )
    (a, i), (b, j) = net.linker_ends[0]
    node, _ = centres(uio66, net)
    edge = np.linalg.norm((node[b] + j - node[a] - i) @ cell)
    stretch = (edge + para + 1.48) / edge
    numbers, positions = [], []
    for n, block in enumerate(net.nodes):
        members = blocks.members(int(block))
        numbers += uio66.numbers[members].tolist()
        positions += (whole[members] + (stretch - 1) * node[n] @ cell).tolist()
    for linker, block in enumerate(net.linkers):
        members = blocks.members(int(block))
        for n, image in net.linker_ends[linker]:  # one copy of the ring stays with each of its two nodes
            numbers += uio66.numbers[members].tolist()
            positions += (whole[members] + (stretch - 1) * (node[n] + image) @ cell).tolist()
    return Atoms(numbers=numbers, positions=positions, cell=stretch * cell, pbc=True)


@pytest.fixture(scope="session")
def honeycomb() -> Atoms:
    """Layer of yttrium(III) benzene-1,3,5-tricarboxylate: one node and one tritopic linker per cell, 2 × 2 cells."""
    a = 5.555 * np.sqrt(3)
    numbers, positions = [39], [[0.0, 5.555, 0.0]]
    for k in range(3):
        turn = np.radians(120.0 * k + 90.0)
        out, side = np.array([np.cos(turn), np.sin(turn), 0.0]), np.array([-np.sin(turn), np.cos(turn), 0.0])
        numbers += [6, 6, 8, 8, 6, 1]
        positions += [1.40 * out, 2.90 * out, 3.535 * out + 1.10 * side, 3.535 * out - 1.10 * side]
        positions += [-1.40 * out, -2.49 * out]
    cell = [[a, 0.0, 0.0], [-a / 2, a * np.sqrt(3) / 2, 0.0], [0.0, 0.0, 7.0]]
    return Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True).repeat((2, 2, 1))


@pytest.fixture(scope="session")
def rods() -> Atoms:
    """Endless …–Mg–O–Mg–O–… rods, joined to walls by acetylenedicarboxylate; two rods and two linkers per cell."""
    cell = Atoms("MgO", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[4.0, 12.0, 9.4], pbc=True)
    for sign, z in ((1, 0.0), (-1, 9.4)):
        cell += Atoms(
            "OCOC", positions=[[0, y, z + sign * h] for y, h in ((1.1, 2.0), (0, 2.6), (-1.1, 2.0), (0, 4.1))]
        )
    return cell.repeat((1, 1, 2))
