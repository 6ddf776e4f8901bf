"""A checkpoint that another program serves.

recommender.py  prompts and vocabulary from the checkpoint, lists from elsewhere
engine.py       an OpenAI-compatible engine, asked in training's own words
answers.py      what it answered, kept
"""
