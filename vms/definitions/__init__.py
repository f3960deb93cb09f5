"""The definitions of guests: read, checked, compared, changed, and kept."""
