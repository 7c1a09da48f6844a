"""The interfaces of plug-ins, one file per kind. Tensor types are for the type checker only.

Every built-in is a frozen pydantic model that its section of the scenario fills; a user's own class
is named by its import path (`kind: mypackage.channels:Urban`).
"""
