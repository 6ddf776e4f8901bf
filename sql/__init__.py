"""The tables of the cohort, one SELECT a file; `etl.warehouse` runs them."""
