"""Where workers run. ``local`` is this machine."""
