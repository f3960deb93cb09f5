"""Making guests: the spec, where it goes, what it takes, the operation that makes it, and how it is known to be ready."""
