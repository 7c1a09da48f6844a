"""A distributed emulator of wireless federated multi-task LLM fine-tuning.

Read `emulator/device.py` first: it tells the life of one device from top to bottom.
"""

__version__ = "0.2.0"
