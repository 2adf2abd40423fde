"""Where workers run. ``local`` is this machine, ``ray`` the nodes of a cluster."""

LOST = "lost"
"""The status of a request whose machine has gone: it is to be sent again."""
MAX_LOSSES = 3
"""How often the same request may be lost: what takes its machine along each time must not do so for ever."""
