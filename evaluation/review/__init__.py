"""Clinicians' own verdicts on drafted drugs: sheets out, answers back, agreement, gold labels for the judge."""
