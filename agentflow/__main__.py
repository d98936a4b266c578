"""``python -m agentflow``: the same as the command ``agentflow``."""

from agentflow.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
