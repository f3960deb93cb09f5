"""A stand-in for Hyper-V's WS-Management, as fixtures (a plug-in: see tests/conftest.py)."""
