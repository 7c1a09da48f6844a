"""Topologies: which device sends to which, and the mixing weights: graphs, weights, clusters.

Every topology has `links(round_index, survey, seed)`, a pure function of what all devices know, so
every device computes the same graph without a message.
"""
