"""kopf decorators only: a table of contents of what wakes us."""
