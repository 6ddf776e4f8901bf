"""The recommender, and the service that answers with it."""
