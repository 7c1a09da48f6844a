"""What was sent in a run, and what it would have cost otherwise."""
