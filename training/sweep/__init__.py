"""A sweep: the same training at several ranks, with several seeds, kept at several steps.

SWEEP/sweep.json                     what is compared, and how far every trial is
SWEEP/METHOD-seed-S/rank-R/          one trial, a run of `rxdraft train`: run.json, log.jsonl, step-N/
SWEEP/METHOD-seed-S/rank-R/whole.json    its marker, written last
SWEEP/METHOD-seed-S/rank-R/failed.json   why it ended before; gone when it is tried again

`grid` says what the trials are, `trial` trains one, `local` and `on_ray` say where, `status` reads how far they are.
Scores are nothing it knows of.
"""
