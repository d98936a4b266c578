"""The proving ground: an installation of real processes that programs may break, and what proves that it held.

Owns nothing of agentflow. chaos.py, kills.py and soak.py are programs over it.
"""
