"""Who may do what: users, tokens, the policy door, the audit line."""
