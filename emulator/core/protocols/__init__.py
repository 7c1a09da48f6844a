"""What a plug-in offers, one file per kind. Tensor types appear for the type checker only.

Every built-in is a frozen pydantic model that its section of the scenario fills; a user's own class
is named by its import path (`kind: mypackage.channels:Urban`).
"""
