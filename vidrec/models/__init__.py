"""The networks: one 2D ResNet, and one file per paper that says only what the paper adds."""
