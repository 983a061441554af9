"""Per-atom novelty of an environment with respect to the training set."""
