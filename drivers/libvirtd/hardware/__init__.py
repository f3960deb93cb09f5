"""A guest's hardware as values, read from its definition and written into it; and the calls that change a running guest."""
