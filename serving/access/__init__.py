"""Who may do what: API keys, tokens of identity providers and EHRs, sessions, limits."""
