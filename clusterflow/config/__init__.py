"""YAML to frozen, typed, validated objects."""
