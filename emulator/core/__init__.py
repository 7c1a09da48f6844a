"""What every package knows: types, plug-in interfaces, errors, units, keyed randomness, files."""
