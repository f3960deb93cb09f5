"""From a `GuestSpec` and what a host can do to a domain: all policy of making guests behind libvirt, and no libvirt call.

One module a family of guests; a driver names its own as `LibvirtDriver.design`.
"""
