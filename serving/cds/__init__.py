"""CDS Hooks 2.0.1: a thin layer over the drafts and the screening, for a hospital's record system to call."""
