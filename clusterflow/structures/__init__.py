"""Builds and changes atomic structures: defects, perturbed starts."""
