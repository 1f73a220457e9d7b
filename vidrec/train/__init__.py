"""Training: state, optimizer, sharding, the step, checkpoints, and the loop that ties them together."""
