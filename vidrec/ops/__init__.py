"""Operators on clips: pure functions on arrays, without parameters."""
