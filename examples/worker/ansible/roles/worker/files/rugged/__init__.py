"""The worker's code."""
