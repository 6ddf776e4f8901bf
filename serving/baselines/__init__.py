"""Baselines as recommenders: simple rules fitted on the training admissions, asked and served like a model.

design.py       admissions as sparse matrices
baseline.py     what every baseline is: scores, a cut, a list
copies.py       another patient's list, the previous admission's
frequencies.py  how often: over everybody, by kind of disease, among the nearest admissions
logistic.py     logistic regression, one per drug
pooled.py       one regression over all drugs, on top of logistic.py and the previous list
saved.py        a fitted regression as one file
fit.py          all of them by name
service.py      one of them with a cohort's vocabulary, as the service asks it
"""
