"""Environment variables of Ray. It reads them when it is imported, so this comes first; what the user has set stays."""

from __future__ import annotations

import os
import secrets


def set_variables(own_cluster: bool) -> None:
    """``own_cluster``: it is started for one run on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of ours reports to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray announces that it will be so one day
    if not own_cluster:
        return
    # Our own limits are finer than Ray's monitor, which kills whatever started last on a machine that is full.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # Nobody else may send it code. Of itself Ray would keep a token in the user's home, and from then on ask for it in
    # clusters that the user starts.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
