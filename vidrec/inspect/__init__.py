"""Looking at networks and at what they see."""
