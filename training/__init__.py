"""Fine-tune a causal language model on the samples: FA-LoRA, checkpoints, manifests."""
