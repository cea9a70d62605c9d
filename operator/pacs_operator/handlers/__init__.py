"""What wakes the operator up: kopf's events, marked in the queue, and nothing more."""
