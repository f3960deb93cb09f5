"""libvirt's real VMware Workstation driver over a stand-in vmrun, as fixtures (a plug-in: see tests/conftest.py)."""
