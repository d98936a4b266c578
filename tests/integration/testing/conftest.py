"""The plugin's fixtures, by import: in a checkout that is not installed anew, pytest does not know them by itself."""

from agentflow.testing.plugin import agentflow, agentflow_settings, agentflow_stage

__all__ = ["agentflow", "agentflow_settings", "agentflow_stage"]
