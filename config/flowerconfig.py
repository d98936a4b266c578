"""Flower as this deployment wants it; `agentflow flower` reads this file where the working directory is the repository.

Write below the import what the deployment changes, one option of Flower a line. The import makes the file complete by
itself, for `celery -A workers flower --conf=config/flowerconfig.py`.
"""

from agentflow.monitor.flowerconfig import *  # noqa: F403 - every name is an option of Flower
