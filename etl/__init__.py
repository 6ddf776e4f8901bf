"""MIMIC-IV files in, one sample per admission out: what the data mean is decided here."""
