"""The only hot loop on the GPU: losses at grid points."""
