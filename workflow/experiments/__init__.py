"""What the studies of this folder have in common: how each declares itself, and how it is run, judged and written down.

A study is `NAME/experiment.py` with an `EXPERIMENT`, beside the study.yaml, task.py and train.py that any study has.
"""

from experiments.declared import Claim, Done, Experiment, Groups, Size, Trend, combined

__all__ = ["Claim", "Done", "Experiment", "Groups", "Size", "Trend", "combined"]
