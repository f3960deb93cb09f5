"""What guests are built of: read, and changed by form, now or at their next start."""
