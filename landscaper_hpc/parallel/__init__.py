"""Communicators and groups of ranks; knows nothing of landscapes."""
