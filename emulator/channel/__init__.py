"""The wireless channel: who is on the air when, what arrives, when, and at what cost.

`model.py` puts the components together, `ideal.py` does without; each other file holds the variants of one component.
"""
