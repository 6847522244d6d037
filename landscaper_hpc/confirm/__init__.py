"""Grid minima and saddles followed in the continuous subspace: what of the grid's tree is the loss's own."""
