"""Local correlation of two feature maps, and the displacement and confidence read off it (TCM-Net, section III-A)."""

from vidrec.ops.correlation.api import GAUSSIANS, IMPLEMENTATIONS, local_correlation, match

__all__ = ["GAUSSIANS", "IMPLEMENTATIONS", "local_correlation", "match"]
