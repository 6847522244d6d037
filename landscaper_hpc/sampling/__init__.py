"""Parts of a grid in place of all of it: what lies below a level, with everything found there exact."""
