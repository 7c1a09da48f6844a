"""Plain data that all packages exchange: NumPy and the standard library only. One file per subject.

Words: a *message* is what a device sends; a *packet* is what fits one datagram; a *burst* is all that
one device transmits to one other in one exchange; an *exchange* is one Send of every device.
"""
