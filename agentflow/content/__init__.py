"""Where content lives: artifacts, inputs and what a later step needs. Content is nowhere else."""

from agentflow.content.shared_directory import SharedDirectory
from agentflow.content.store import Address, ContentStore

__all__ = ["Address", "ContentStore", "SharedDirectory"]
