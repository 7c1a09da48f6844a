"""A run as one frozen, complete value, how it is read and checked, and the objects it becomes."""
