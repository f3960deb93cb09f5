"""Real Docker and Podman engines, as fixtures (a plug-in: see tests/conftest.py)."""
