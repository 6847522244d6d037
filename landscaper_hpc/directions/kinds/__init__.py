"""Where directions come from: one module a kind, found through `study.choices.DIRECTION_KINDS`.

Each has `directions(study, objective, progress, resume)`, the normalised directions that the study asks for; `resume`
is a file where work that is long keeps its state.
"""
