"""Small structures of many chemistries for tests, from the coordinates of public files or from standard geometries.

Bond lengths are those of the chemistry to about 0.05 Å; nothing here is relaxed.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.spacegroup import crystal

from clusterflow.core.data import FloatArray, IntArray


def hkust1() -> Atoms:
    """Cu3(BTC)2 (first made by Chui et al. 1999, doi:10.1126/science.283.5405.1148) without water, primitive cell of
    156 atoms: asymmetric unit of `tests/test_files/HKUST-1.cif` of kjappelbaum/moffragmentor (0029c823, MIT)."""
    sites = {
        "Cu": (0.285, 0.285, 0.0),
        "O": (0.317, 0.243, 0.948),
        "C": (0.322, 0.178, 0.887),
        "C1": (0.297, 0.203, 0.931),
        "C2": (0.366, 0.199, 0.866),
        "H": (0.380, 0.228, 0.880),
    }
    return _crystal(sites, 225, (26.343, 26.343, 26.343, 90, 90, 90), primitive=True)


def mof74() -> Atoms:
    """Mg2(dobdc) without water, primitive cell of 54 atoms: asymmetric unit of `structures/mofs/cif/Mg-DOBDC.cif` of
    numat/RASPA2 (7dc77944, MIT; author A. Ö. Yazaydin)."""
    sites = {
        "Mg": (0.64159, 0.68514, 0.47189),
        "O": (0.96943, 0.29776, 0.36038),
        "O1": (0.92763, 0.23048, 0.6102),
        "O2": (0.25494, 0.94205, 0.67383),
        "C": (0.92667, 0.2458, 0.42703),
        "C1": (0.87918, 0.20711, 0.29083),
        "C2": (0.21254, 0.88926, 0.7549),
        "C3": (0.1663, 0.84759, 0.63558),
        "H": (0.16529, 0.85803, 0.47918),
    }
    return _crystal(sites, 148, (25.8765, 25.8765, 6.7856, 90, 90, 120), primitive=True)


def sodalite(*, aluminium: bool = False) -> Atoms:
    """SiO2 with the zeolite net SOD, 36 atoms, drawn with Si–O 1.6 Å; or H6Al6Si6O24, with every second Si an Al and a
    proton beside it."""
    sites = {"Si": (0.25, 0.5, 0.0), "O": (0.3534, 0.3534, 0.0)}
    atoms = _crystal(sites, 229, (8.83, 8.83, 8.83, 90, 90, 90))
    if not aluminium:
        return atoms
    silicon = np.flatnonzero(atoms.numbers == 14)
    vectors = atoms.get_all_distances(mic=True, vector=True)
    other = {int(silicon[0]): False}
    queue = [int(silicon[0])]
    for k in queue:  # colour neighbouring T atoms in turn: SOD has even rings only
        for m in silicon.tolist():
            if m not in other and np.linalg.norm(vectors[k, m]) < 3.4:
                other[m] = not other[k]
                queue.append(m)
    atoms.numbers[[k for k, second in other.items() if second]] = 13
    oxygen = np.flatnonzero(atoms.numbers == 8)
    protons, used = [], set()
    for k in np.flatnonzero(atoms.numbers == 13).tolist():
        o = next(m for m in oxygen.tolist() if np.linalg.norm(vectors[k, m]) < 1.8 and m not in used)
        used.add(o)
        ends = [vectors[o, t] for t in silicon.tolist() if np.linalg.norm(vectors[o, t]) < 1.8]
        away = -np.sum(ends, axis=0)
        protons.append(atoms.positions[o] + 0.97 * away / np.linalg.norm(away))
    return atoms + Atoms("H" * len(protons), positions=protons)


def boroxine_layer() -> Atoms:
    """One layer like COF-1: boroxine rings joined by 1,4-phenylene, 42 atoms."""
    half = [("O", 1.38 * np.array([0.5, 3**0.5 / 2])), ("B", np.array([1.38, 0.0]))]
    centre = np.array([1.38 + 1.55 + 1.40, 0.0])
    return _honeycomb(half, _phenylene(centre), centre)


def imine_layer() -> Atoms:
    """One layer of an imine COF: benzene-1,3,5-triyl joined by –CH=N–C6H4–N=CH–, 78 atoms."""
    turn = np.deg2rad(60.0)
    ch = np.array([1.40 + 1.47, 0.0])
    n = ch + 1.28 * np.array([np.cos(turn), np.sin(turn)])
    centre = n + np.array([1.41 + 1.40, 0.0])
    half = [
        ("C", np.array([1.40, 0.0])),
        ("C", 1.40 * np.array([0.5, 3**0.5 / 2])),
        ("H", 2.49 * np.array([0.5, 3**0.5 / 2])),
        ("C", ch),
        ("H", ch + 1.09 * np.array([np.cos(turn), -np.sin(turn)])),
        ("N", n),
    ]
    return _honeycomb(half, _phenylene(centre), centre)


def pyrazine_chain() -> Atoms:
    """An endless chain –ZnCl2–pyrazine–."""
    ring = [("N" if k in (0, 3) else "C", 1.38 * np.cos(k * np.pi / 3), 1.38 * np.sin(k * np.pi / 3)) for k in range(6)]
    atoms = [(s, (x + 3.48, y, 0.0)) for s, x, y in ring]
    atoms += [("H", (2.46 * x / 1.38 + 3.48, 2.46 * y / 1.38, 0.0)) for s, x, y in ring if s == "C"]
    atoms += [("Zn", (0.0, 0.0, 0.0)), ("Cl", (0.0, 0.0, 2.2)), ("Cl", (0.0, 0.0, -2.2))]
    return Atoms([s for s, _ in atoms], positions=[p for _, p in atoms], cell=[6.96, 14, 14], pbc=True)


def porphine(metal: str = "Zn") -> Atoms:
    """Metalloporphine C20H12N4M, planar; with an empty ``metal`` the free base C20H14N4."""
    quarter = [
        ("N", 2.05, 0.0), ("C", 2.86, 1.10), ("C", 2.86, -1.10), ("C", 4.24, 0.68), ("C", 4.24, -0.68),
        ("H", 5.05, 1.38), ("H", 5.05, -1.38), ("C", 2.43, 2.43), ("H", 3.20, 3.20),
    ]  # fmt: skip
    atoms = [(metal, 0.0, 0.0)] if metal else [("H", 1.04, 0.0), ("H", -1.04, 0.0)]
    for k in range(4):
        c, s = round(np.cos(k * np.pi / 2)), round(np.sin(k * np.pi / 2))
        atoms += [(e, c * x - s * y, s * x + c * y) for e, x, y in quarter]
    return Atoms([e for e, *_ in atoms], positions=[(x, y, 0.0) for _, x, y in atoms])


def porphyrin_layer() -> Atoms:
    """A layer of zinc porphyrins whose four meso-carboxylates meet in pairs on two Zn atoms with a water each."""
    atoms = porphine("Zn")
    atoms.rotate(45, "z")
    meso = [k for k in range(len(atoms)) if atoms.symbols[k] == "H" and np.abs(atoms.positions[k, :2]).min() < 0.1]
    del atoms[meso]
    half = 7.1
    for k in range(4):
        arm = Atoms(
            "COO", positions=[[3.44 + 1.49, 0, 0], [3.44 + 1.49 + 0.55, 0, 1.13], [3.44 + 1.49 + 0.55, 0, -1.13]]
        )
        arm.rotate(90 * k, "z")
        atoms += arm
    for along_y in (False, True):
        node = Atoms("Zn2O2H4", positions=_two_hydrated((half, 0.0, 1.7)))
        if along_y:
            node.rotate(90, "z")
        atoms += node
    atoms.set_cell([2 * half, 2 * half, 16.0])
    atoms.pbc = True
    return atoms


def polyphenyl(rings: int) -> Atoms:
    """A planar para-polyphenyl molecule, H(C6H4)nH."""
    atoms: list[tuple[str, FloatArray]] = []
    for k in range(rings):
        atoms += _phenylene(np.array([4.29 * k, 0.0]))
    atoms += [("H", np.array([-2.49, 0.0])), ("H", np.array([4.29 * (rings - 1) + 2.49, 0.0]))]
    return Atoms([s for s, _ in atoms], positions=[(x, y, 0.0) for _, (x, y) in atoms])


def benzene_crystal() -> Atoms:
    """Four benzene molecules in a periodic box, some across its faces."""
    atoms = Atoms(cell=[9.0, 9.0, 9.0], pbc=True)
    for k, origin in enumerate(([0.0, 0.0, 0.0], [4.5, 4.5, 0.0], [4.5, 0.0, 4.5], [0.0, 4.5, 4.5])):
        ring = molecule("C6H6")
        ring.rotate(35 * k, "x")
        ring.positions += origin
        atoms += ring
    atoms.wrap()
    return atoms


def chain(*, double_bonds: bool) -> Atoms:
    """Endless all-trans polyacetylene (1.36 and 1.44 Å in turn) or polyethylene, two carbons per cell."""
    if double_bonds:
        a, c = 1.36, 1.44
        x, y = (a / 2) * np.cos(np.pi / 6), (a / 2) * np.sin(np.pi / 6)
        period = 2 * (a + c) / 2 * np.cos(np.pi / 6)
        carbons = [(-x, -y, 0.0), (x, y, 0.0)]
        hydrogens = [(-x, -y - 1.09, 0.0), (x, y + 1.09, 0.0)]
        return Atoms("C2H2", positions=carbons + hydrogens, cell=[period, 12, 12], pbc=True)
    carbons = [(0.0, 0.42, 0.0), (1.27, -0.42, 0.0)]
    hydrogens = [(x, y + np.sign(y) * 0.63, z) for x, y, _ in carbons for z in (0.89, -0.89)]
    return Atoms("C2H4", positions=carbons + hydrogens, cell=[2.54, 12, 12], pbc=True)


def _two_hydrated(at: tuple[float, float, float]) -> list[tuple[float, float, float]]:
    """Two metals above and below the plane, then their water oxygens, then four hydrogens."""
    x, y, z = at
    waters = [(x, y, s * (z + 2.05)) for s in (1, -1)]
    hydrogens = [(x + 0.55 * d, y + 0.55 * d, s * (z + 2.05 + 0.58)) for s in (1, -1) for d in (1, -1)]
    return [(x, y, z), (x, y, -z), *waters, *hydrogens]


def _phenylene(centre: FloatArray) -> list[tuple[str, FloatArray]]:
    """C6H4 in the plane with its axis along x."""
    atoms: list[tuple[str, FloatArray]] = []
    for k in range(6):
        direction = np.array([np.cos(k * np.pi / 3), np.sin(k * np.pi / 3)])
        atoms.append(("C", centre + 1.40 * direction))
        if k not in (0, 3):
            atoms.append(("H", centre + 2.49 * direction))
    return atoms


def _honeycomb(half: list[tuple[str, FloatArray]], edge: list[tuple[str, FloatArray]], centre: FloatArray) -> Atoms:
    """A honeycomb layer from a third of a vertex (at the origin, first edge along x) and a whole edge group around
    ``centre``, about which the layer has an inversion centre."""
    symbols: list[str] = []
    positions: list[FloatArray] = []
    turns = [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in np.deg2rad([0.0, 120.0, 240.0])]
    for turn in turns:
        for symbol, place in half:
            symbols += [symbol, symbol]
            positions += [turn @ place, 2 * centre - turn @ place]
        for symbol, place in edge:
            symbols.append(symbol)
            positions.append(turn @ place)
    steps = [turn @ (2 * centre) for turn in turns]
    cell = np.zeros((3, 3))
    cell[0, :2], cell[1, :2], cell[2, 2] = steps[0] - steps[2], steps[1] - steps[2], 12.0
    atoms = Atoms(symbols, positions=np.column_stack((positions, np.full(len(symbols), 6.0))), cell=cell, pbc=True)
    atoms.wrap()
    return atoms


def _crystal(
    sites: dict[str, tuple[float, float, float]],
    group: int,
    cell: tuple[float, float, float, float, float, float],
    *,
    primitive: bool = False,
) -> Atoms:
    atoms = crystal(
        [name.rstrip("0123456789") for name in sites],
        list(sites.values()),
        spacegroup=group,
        cellpar=cell,
        primitive_cell=primitive,
        symprec=2e-3,
        onduplicates="keep",
    )
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def moved(atoms: Atoms, rng: np.random.Generator) -> tuple[Atoms, IntArray]:
    """The same crystal with its atoms in another order and in other images, rotated; and the order: atom k of it is
    atom ``order[k]`` of the given one."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    order = rng.permutation(len(atoms))
    other = atoms[order]
    other.positions += rng.integers(-2, 3, size=(len(atoms), 3)) @ atoms.cell.array
    other.set_cell(atoms.cell.array @ rotation)
    other.positions = other.positions @ rotation
    return other, order
