"""The wireless channel: who is on the air when, what arrives, when, and at what cost.

`model.py` puts the components together, `wireless_channel.py` is the air of one run, `ideal.py` does without; most other
files hold the variants of one component.
"""
