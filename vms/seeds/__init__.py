"""The seeds that cloud-init in guests reads: what stands in one, and another in its place."""
