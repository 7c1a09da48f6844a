"""The exchange room: carries bursts between lives and knows nothing of what is in them.

one_process runs all lives in turn, many_processes runs one life in this process; both tell the same
story. Only what many_processes needs imports torch.distributed, so nothing is imported here.
"""
