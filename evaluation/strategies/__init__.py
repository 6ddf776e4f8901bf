"""Other ways to put the served question, of a base alone and of a checkpoint.

strategy.py   what a strategy is; those that ship are in strategies.toml
examples.py   solved admissions to show
drafts.py     every strategy asked, drafts kept
compare.py    base and checkpoint side by side
"""
