"""Snapshots that are taken by themselves: when, of which guests, and how many are kept."""
