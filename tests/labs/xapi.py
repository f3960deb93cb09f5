"""A stand-in for XenServer's XAPI, as fixtures (a plug-in: see tests/conftest.py)."""
