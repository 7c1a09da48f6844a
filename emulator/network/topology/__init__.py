"""Who sends to whom, and how much each receiver mixes in: graphs, mixing weights, clusters.

Every topology is `links(round_index, survey, seed)`, a pure function of what all devices know, so
that each of them computes the same graph without a message.
"""
