"""The world outside: weights of PyTorch networks come in here, trained networks go out."""
