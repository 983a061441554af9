"""Cuts finite fragments around chosen environments."""
