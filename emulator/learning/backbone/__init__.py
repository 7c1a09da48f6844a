"""Backbones: the frozen models that all devices share."""
