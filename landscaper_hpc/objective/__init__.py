"""A task file, a checkpoint and data become a deterministic loss of named parameters."""
