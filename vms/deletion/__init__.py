"""Deleting guests: into the bin, back, and for good."""
