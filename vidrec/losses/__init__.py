"""Training losses, as pure functions of network outputs."""
