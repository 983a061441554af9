"""Potentials and data for other programs: LAMMPS, psiflow, datasets with their provenance, and the model card."""
