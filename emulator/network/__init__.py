"""What stands between devices: topology, wire format, channel, and the shim that joins them."""
