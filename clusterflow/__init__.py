"""clusterflow: machine-learning potentials for materials too large for DFT, learned from finite fragments."""

__version__ = "0.1.0"
