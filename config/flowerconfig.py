"""Flower as this deployment wants it; `agentflow flower` reads this file where the working directory is the repository.

The first line makes it complete by itself, for `celery -A workers flower --conf=config/flowerconfig.py`.
"""

from agentflow.monitor.flowerconfig import *  # noqa: F403 - every name is an option of Flower

# Keep what the deployment changes below, such as:
#   port = 8080
#   url_prefix = "flower"
