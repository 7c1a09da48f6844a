"""Tasks: the data of every device, and how a backbone learns from it."""
