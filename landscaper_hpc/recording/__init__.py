"""A loss as a flat list of operations, and what makes its replay fast."""
