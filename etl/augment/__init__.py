"""`rxdraft augment`: from a few seed tasks to many, written by a language model, as a corpus that trains.

seeds.py      seed tasks: a file's, a cohort's, or the shipped ones in seeds/
prompt.py     what the model is asked and how its answer is read; the texts stand in prompts/
novelty.py    ROUGE-L against everything there is, exact and fast
filters.py    which tasks are of no use
growth.py     the pool as it grows, round by round; knows no network
ledger.py     every answer, for ever; tables in sql/augment/
settings.py   what a run is asked to do
run.py        seeds to corpus, in order
rehearsal.py  --dry-run
corpus.py     the folder that `rxdraft train --data` takes

The asking itself is etl/outside/.

Source: Wang et al., Self-Instruct, arXiv 2212.10560; several whole tasks a request as in Taori et al., Stanford Alpaca.
"""
