"""Multiple-choice questions of medicine: what does a checkpoint still know of what its base knew?

items.py      files of questions
questions.py  how one is put, how its answer is read
exam.py       every model asked, answers kept
scores.py     what answers are worth, and the difference to the base
report.py     in words and as JSON
"""
