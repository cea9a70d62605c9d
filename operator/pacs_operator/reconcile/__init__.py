"""Queue, engine and long operations: one reconcile, right from any state."""
