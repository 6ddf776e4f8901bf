"""`rxdraft predict`: drafts for a Parquet file of admissions.

job.py       what is asked: the file, looked over and cut into parts
rows.py      a table of admissions as a table of drafts
parts.py     part by part, so that a killed run goes on
cluster.py   by the workers of a Ray cluster
predict.py   all of it in order: who drafts, for what, where
commands.py  the command
"""
