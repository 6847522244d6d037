"""The n directions of a landscape; Hessian-vector products, Lanczos, trace and spectral density."""
