"""From a checkpoint's scores to probabilities, and to a list.

calibration.py  what a manifest keeps of it: curve, cut, votes, blend
curves.py       curves from score to probability
cut.py          where a ranked list ends
blend.py        a model's scores with those of a regression on the codes
fitting.py      curve and cut, fitted to what was ordered
calibrate.py    all of it for checkpoints, on the validation split
commands.py     the command `calibrate`
"""
