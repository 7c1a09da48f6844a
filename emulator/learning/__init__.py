"""The computations of a device: backbone, tasks, adapters, routing, training and evaluation."""
