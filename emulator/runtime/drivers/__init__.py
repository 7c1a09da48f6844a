"""The two drivers: all devices in one process, or one process per device."""
