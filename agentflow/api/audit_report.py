"""The report of a check of the audit: its form, and the job that checks everything.

Owns how much of it is told: of an audit that is wrong everywhere the first findings, and how many more there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from agentflow.api.caller import Json
from agentflow.domain.chain_check import Finding
from agentflow.engine.context import EngineContext
from agentflow.engine.job_worker import Job
from agentflow.engine.verify import VerificationReport, find_audited, verify_installation, verify_known
from agentflow.engine.verify_checkpoints import verify_checkpoints

T = TypeVar("T")
REPORT_SCHEMA = "agentflow.audit-report/1"
MOST_FINDINGS = 1000
"""How many findings of a check of everything are told."""


def told(report: VerificationReport) -> Json:
    """Return the report of one run."""
    findings = [_finding(each) for each in report.findings]
    return {"run": str(report.run_id), "events": report.events, "findings": findings}


def verify_in_job(context: EngineContext, job: Job) -> Json:
    """Check the audit of every run, that of the installation, and the signed checkpoints."""
    told_of = _Told()
    runs = list(_broken_runs(context, job, told_of))
    own, signed = verify_installation(context), verify_checkpoints(context)
    answer = {
        "schema": REPORT_SCHEMA,
        "is_intact": not told_of.found and own.is_intact and signed.is_intact,
        "runs": runs,
        "installation": {"events": own.events, "findings": [_finding(each) for each in told_of.first(own.findings)]},
        "checkpoints": {
            "checkpoints": signed.checkpoints,
            "leaves": signed.leaves,
            "unchecked": signed.unchecked,
            "findings": [
                {"run": run_id and str(run_id)} | _finding(each) for run_id, each in told_of.first(signed.findings)
            ],
        },
    }
    return answer | ({"left_out": told_of.found - told_of.told} if told_of.found > told_of.told else {})


def _broken_runs(context: EngineContext, job: Job, told_of: _Told) -> Iterator[Json]:
    known = find_audited(context)
    job.tell(0, len(known))
    for number, run_id in enumerate(known, 1):
        report = verify_known(context, run_id)
        if report is not None and (findings := told_of.first(report.findings)):
            yield told(replace(report, findings=findings))
        job.tell(number, len(known))


@dataclass(slots=True)
class _Told:
    """How many findings there were, and how many of them were told."""

    found: int = 0
    told: int = 0

    def first(self, findings: tuple[T, ...]) -> tuple[T, ...]:
        """Return those that there is room for."""
        some = findings[: MOST_FINDINGS - self.told]
        self.found += len(findings)
        self.told += len(some)
        return some


def _finding(each: Finding) -> Json:
    return {"code": str(each.code), "message": each.message, "step": each.step, "sequence": each.sequence}
