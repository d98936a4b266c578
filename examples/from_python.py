"""Submit a plan that is built in Python and wait for it: python examples/from_python.py

It uses the servers of AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL, or the stack that `agentflow up` started.
"""

from __future__ import annotations

from agentflow import AgentFlow, Plan

SIZES = (10, 200, 3000)


def squares() -> Plan:
    """One step a size, side by side, and one that adds up what they found."""
    plan = Plan("squares")
    parts = [
        plan.subprocess(
            f"up_to_{size}",
            ["awk", f'BEGIN {{ for (i = 1; i <= {size}; i++) sum += i * i; printf "%.0f", sum }}'],
            needs=[],
            outputs="stdout_json",
        )
        for size in SIZES
    ]
    numbers = " ".join(f"{{{{ steps.{part}.result }}}}" for part in parts)
    plan.subprocess(
        "total",
        ["awk", '{ for (i = 1; i <= NF; i++) sum += $i; printf "%.0f", sum }'],
        needs=parts,
        stdin=numbers,
        outputs="stdout_json",
    )
    return plan


def main() -> None:
    """Submit, wait, and print the result."""
    with AgentFlow() as flow:
        run = flow.submit(squares())
        run.wait(timeout=60, raise_on_failure=True)
        print(run.id, run.state, run.steps["total"].result)


if __name__ == "__main__":
    main()
