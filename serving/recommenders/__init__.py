"""Checkpoints that draft: lists written token by token, labels scored in one pass, many asked at once."""
