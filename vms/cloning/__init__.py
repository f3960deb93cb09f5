"""Guests that are like another one: full clones, templates, and what is made of them."""
