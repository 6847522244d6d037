"""What there is to do, and in which order: landscapes, tasks, stages, campaigns."""
