"""The compiled loops of merge trees."""
