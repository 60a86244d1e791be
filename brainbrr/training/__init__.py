"""Training: state, loop, checkpoints, validation, several processes."""
