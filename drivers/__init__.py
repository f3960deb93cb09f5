"""Hypervisors as a library: plain Python, no Django, no application of ours. Usable from a REPL."""
