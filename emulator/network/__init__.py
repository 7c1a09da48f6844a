"""The network between devices: topology, wire format, channel, and the shim that combines them."""
