"""Tells the user what has become of a campaign, by a command of theirs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from clusterflow.config.notify import Moment, Notify


def notify(wanted: Notify | None, state: Moment, *, campaign: str, reason: str, folder: Path) -> str:
    """Runs the user's command if it is wanted at this moment; returns what went wrong with it, "" if nothing did.

    It is run without a shell, with its own process group that is ended after the time limit.
    """
    if wanted is None or state not in wanted.on:
        return ""
    news = f"clusterflow campaign {campaign} {state}: {reason}\n{folder}\n"
    told = {
        "CLUSTERFLOW_STATE": state,
        "CLUSTERFLOW_CAMPAIGN": campaign,
        "CLUSTERFLOW_REASON": reason,
        "CLUSTERFLOW_FOLDER": str(folder),
    }
    try:
        process = subprocess.Popen(
            wanted.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **{k: v.replace("\x00", "") for k, v in told.items()}},
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        return f"the notification command '{wanted.command[0]}' cannot be run: {error.strerror}"
    try:
        _, said = process.communicate(news, timeout=wanted.time_limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"the notification command '{wanted.command[0]}' was ended after {wanted.time_limit:g} s"
    if process.returncode != 0:
        return f"the notification command '{wanted.command[0]}' ended with {process.returncode}: {said.strip()[-300:]}"
    return ""
