"""libvirt's real OpenVZ driver over stand-in tools, as fixtures (a plug-in: see tests/conftest.py)."""
