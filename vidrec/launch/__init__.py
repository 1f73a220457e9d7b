"""Pods: what a training step costs on a slice that is not there, and how a run is started on one that is."""
