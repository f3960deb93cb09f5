"""Hyper-V by WS-Management: the Msvm_* and Win32_* classes spoken to directly, no PowerShell, no agent on the host."""

from drivers.hyperv.driver import HyperVDriver

__all__ = ["HyperVDriver"]
