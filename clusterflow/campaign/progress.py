"""What running tasks say of themselves, read from their scratch folders; for the eye only."""

from __future__ import annotations

import json
from pathlib import Path

from clusterflow.state.layout import CampaignFolder


def running_lines(folder: CampaignFolder) -> list[str]:
    """One line per running task that writes a ``progress.json``."""
    lines = []
    for path in sorted(folder.work.glob("*/progress.json")):
        text = _line(path)
        if text:
            lines.append(text)
    return lines


def _line(path: Path) -> str:
    kind, _, key = path.parent.name.partition("-")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # being replaced, or gone: the next look will see it
        return ""
    if "epoch" in data:
        loss = f", validation loss {data['val_loss']:.4g}" if isinstance(data.get("val_loss"), float) else ""
        return f"{kind} {key[:8]}: epoch {data['epoch']} of {data.get('max_epochs', '?')}{loss}"
    if "step" in data:
        heat = f", {data['temperature_K']:.0f} K" if isinstance(data.get("temperature_K"), float) else ""
        return f"{kind} {key[:8]}: step {data['step']} of {data.get('steps', '?')}{heat}"
    return ""
