"""The event log: one append-only table of what happened, in commit order, and the doorbell that says there is more."""
