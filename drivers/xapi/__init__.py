"""XenServer and XCP-ng through XAPI: XML-RPC over HTTPS."""

from __future__ import annotations

from drivers.xapi.driver import XapiDriver

__all__ = ["XapiDriver"]
