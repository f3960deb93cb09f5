"""How hosts, networks, storage and guests hang together: one reading of it, a page and a REST answer made of it."""
