"""An evaluation for readers: one HTML page, tables for papers, a model card, and the TRIPOD-LLM items.

Nothing is measured here: every figure follows from per_visit.parquet, and `rxdraft report --check` proves it.
"""
