"""Datasets and trainable potentials."""
