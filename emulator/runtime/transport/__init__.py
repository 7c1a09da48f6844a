"""The transport: it carries bursts between the processes of a run and does not read their data.

Only the driver many_processes uses it. This file imports nothing, so that the driver one_process does
not load torch.distributed.
"""
