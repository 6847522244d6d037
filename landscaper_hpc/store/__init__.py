"""What is on disk: the Zarr store, and the folder around it."""
