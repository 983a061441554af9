"""Numerics that two or more stages share (NumPy and ASE in and out)."""
