"""Real Xen with a Debian dom0 in an emulated machine, as fixtures (a plug-in: see tests/conftest.py)."""
