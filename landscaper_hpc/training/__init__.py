"""Callbacks of others' training loops, which save what a sweep needs while a model is trained, and nothing else.

`landscaper_hpc.training.hugging_face.SaveForSweep` for transformers' Trainer, `landscaper_hpc.training.lightning.
SaveForSweep` for Lightning, `landscaper_hpc.training.weights.save_weights` for a loop of your own.
"""
