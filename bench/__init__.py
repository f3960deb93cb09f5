"""What it costs to have vmmanager between a person and libvirt: `python -m bench --help`."""
