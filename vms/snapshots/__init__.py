"""Snapshots of guests: what there is, taking them, going back, deleting them."""
