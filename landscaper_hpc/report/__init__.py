"""What a study found, as numbers and as a page. Computes nothing."""
