"""How sure a score is, and what else follows from per-visit numbers. Knows no drug, no model and no file.

ratios.py       a score as a sum over a sum, the form in which patients can be drawn again
bootstrap.py    patients drawn again with their visits
comparisons.py  differences, effects, the best of several, what could be found at all
chance.py       what another patient's list scores, and how far above it a score stands
calibration.py  whether probabilities are true
conformal.py    where to cut a list so that the next patient is promised something
subgroups.py    scores by group, none that tells of a few patients
simulate.py     all of it tested where the truth is known
"""
