"""Search of diagnoses and drugs, on the server: an index made once of the served vocabulary, read by all threads."""

from serving.search.search import Search, SearchNotReadyError

__all__ = ["Search", "SearchNotReadyError"]
