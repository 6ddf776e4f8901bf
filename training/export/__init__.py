"""Checkpoints for other tools: an adapter that PEFT and vLLM load, or one merged model; with a card, to the hub."""
