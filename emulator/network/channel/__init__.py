"""The wireless channel: when devices transmit, which packets arrive, when, and at what cost.

`model.py` combines the components, `wireless_channel.py` is the channel of one run, and `ideal.py` a
channel without losses and delays. Most other files define the variants of one component.
"""
