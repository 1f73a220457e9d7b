"""vidrec: video action recognition in JAX/Flax, from video files to trained, evaluated and explained networks."""

__version__ = "0.1.0"
