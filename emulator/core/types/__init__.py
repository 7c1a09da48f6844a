"""Plain data types that all packages use: NumPy and the standard library only. One file per subject.

Terms: a *message* is a unit that a device sends; a *packet* is a part of a message that fits one
datagram; a *burst* is everything that one device transmits to one other device in one exchange; an
*exchange* is one Send of every device.
"""
