"""An ESXi host or a vCenter: govmomi's simulator, as fixtures (a plug-in: see tests/conftest.py)."""
