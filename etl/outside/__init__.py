"""Language models elsewhere: which data may go to them, at what pace and cost, and where every answer is kept.

firewall.py   which data may go to which endpoint
endpoint.py   an OpenAI-compatible server, one request at a time
asked.py      what asking needs of a question and of a ledger
ask.py        many requests: pace, retries, what is stored
reading.py    an answer as an object of one shape, or why it is none
budget.py     what a run would send and cost
ledger.py     how a ledger is opened: whole, alone, on disk; its own tables are its user's
options.py    the command-line options that all of this has

It knows no question: the judge (evaluation/judge/) and data growth (etl/augment/) bring their own.
"""
