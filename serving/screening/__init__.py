"""Safety screening: cited rules over a draft's drugs, the drugs already ordered and what is known of the patient.

    facts.py      what the rules may look at
    findings.py   what they say: alerts, and what was not screened
    rules.py      what a rule is
    knowledge.py  all of them, read from knowledge/*.json
    profiles.py   a drug's name as rules see it: ingredients, and the groups it belongs to
    case.py       the drugs and the patient of one screening
    checks.py     what a rule says of a case; allergies.py, kidney.py and pregnancy.py know the details
    site.py       a hospital's own table of interactions
    coverage.py   which checks had what they need
    summary.py    the one sentence that says what was screened
    screener.py   the front
    handbook.py   the tables of docs/screening.md

It knows no store, no web and no model. That no rule fired says nothing about a drug.
"""

from serving.screening.facts import Allergy, Facts, Lab
from serving.screening.findings import Alert, NotEvaluated, Screening, Text, Tier
from serving.screening.rules import Rule
from serving.screening.screener import Screener

__all__ = ["Alert", "Allergy", "Facts", "Lab", "NotEvaluated", "Rule", "Screener", "Screening", "Text", "Tier"]
