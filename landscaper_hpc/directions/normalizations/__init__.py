"""How long directions are: one module a normalisation, found through `study.choices.NORMALIZATIONS`.

Each has `scaled(flat, layout, theta)`: directions as flat float64 vectors (n, size), scaled for the flat parameters
`theta` (size,).
"""
