"""Reference calculations: energies and forces at a stated level of theory."""
