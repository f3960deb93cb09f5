"""VMware vSphere by its own API, through pyVmomi: a lone ESXi host (`esx`), or one datacenter of a vCenter (`vpx`)."""

from __future__ import annotations

from drivers.vsphere.kinds import EsxDriver, VCenterDriver

__all__ = ["EsxDriver", "VCenterDriver"]
