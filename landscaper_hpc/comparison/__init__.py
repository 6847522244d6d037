"""How two checkpoints of one model relate."""
