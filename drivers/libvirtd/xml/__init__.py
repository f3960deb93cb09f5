"""Libvirt's XML as typed fields over lxml trees that are edited in place. Fields only: no policy, no libvirt, no I/O."""
