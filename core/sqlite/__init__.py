"""Our SQLite backend for Django: `base`."""
