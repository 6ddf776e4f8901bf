"""What a training step needs, in bytes and seconds, worked out on the meta device: no weights, no GPU, no network."""
