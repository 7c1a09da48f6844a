"""What a device computes: backbone, tasks, adapters, routing, training and evaluation."""
