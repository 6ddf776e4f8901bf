"""The language-model judge: one drug for one patient at a time, among decoys that show what the judge lets pass.

protocol.py      what is asked, how an answer is read; the texts stand in prompts/
items.py         what is judged: the drugs of every row, as units of patient and drug
decoys.py        units whose right answer is known, mixed in unseen; rules in decoys/*.csv
plan.py          all units of a run, in the order they are asked
questions.py     what is asked, as the ledger names it; the asking itself is etl/outside/
ledger.py        every verdict, for ever; tables in sql/judge/
intervals.py     Clopper-Pearson, cluster bootstrap, the identification interval
correction.py    PPI++ with human labels
certificate.py   how good the judge is: judge-card.json
appropriateness.py  a row's figure, its text and badge
parity.py        the reference's protocol: a count per list
equate.py        one judge against another on the units with a known answer
share.py         verdicts without text, for others
run.py           drafts to answers, in order
card.py          answers to figures and their card
rehearsal.py     --dry-run
panel.py         several judges as one
gold.py          human labels
"""
