"""The scenario of the tests whose four devices have a host or a container each."""

SCENARIO = """\
name: small
devices: 4
rounds: 2
tasks: {kind: synthetic, names: [reverse, sort], train_samples: 60, test_samples: 2}
method: {kind: lora}
topology: {kind: complete}
channel: lossy_link
local: {steps: 1}
"""
