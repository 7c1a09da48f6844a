"""The scenario of a run: one frozen, complete value; its reading and checks; the objects built from it."""
