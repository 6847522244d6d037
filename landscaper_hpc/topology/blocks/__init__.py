"""Merge trees block by block: out of core, and over MPI ranks."""
