"""Chooses which environments are worth a label."""
