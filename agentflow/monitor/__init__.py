"""Flower over agentflow's broker: its defaults, where its configuration comes from, and when it must not start.

Owns nothing of what Flower shows: the workers' events tell it, see worker/control.py and engine/announce.py.
"""
