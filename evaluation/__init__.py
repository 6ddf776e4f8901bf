"""Score the served recommender against what was prescribed."""
