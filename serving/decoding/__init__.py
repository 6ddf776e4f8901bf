"""Well-formed lists by construction: the formulary as a trie of tokens, and the decoder that walks it."""
