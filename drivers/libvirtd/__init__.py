"""Hypervisors behind libvirt. The only package that imports libvirt; nothing of libvirt leaves it but plain values."""
