"""Guests that start with their host in an order: which, when the host came up, and one after the other."""
