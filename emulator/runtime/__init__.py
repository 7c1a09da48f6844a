"""One run: processes, transport, drivers, its output folder, inference from it."""
