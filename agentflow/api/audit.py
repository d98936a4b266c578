"""The audit: what was done outside of runs, whether anything was altered, and what was signed."""

from __future__ import annotations

from fastapi import APIRouter

from agentflow.api.caller import Admin, Json, Viewer, whole
from agentflow.api.events_page import events_page
from agentflow.api.paging import Cursor, Limit, cursor_of, number_of
from agentflow.domain.chain_check import Finding
from agentflow.domain.error import NotFound
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId
from agentflow.engine.sign import find_key
from agentflow.engine.verify import VerificationReport, verify_all, verify_installation, verify_run
from agentflow.engine.verify_checkpoints import verify_checkpoints
from agentflow.storage import checkpoints

router = APIRouter(tags=["audit"])
REPORT_SCHEMA = "agentflow.audit-report/1"


@router.get("/audit/events")
def installation_events(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List what was done outside of runs: keys, schedules, stored plans, maintenance, prunings."""
    return events_page(whole(caller), INSTALLATION_CHAIN, limit, cursor)


@router.get("/runs/{run}/verify")
def verify_one(caller: Viewer, run: str) -> Json:
    """Check that nothing of the audit of a run was altered, removed, added or cut."""
    report = verify_run(caller.flow.context, RunId(caller.run(run).uuid))
    return {"schema": REPORT_SCHEMA, "is_intact": report.is_intact, "runs": [_told(report)]}


@router.get("/audit/verify")
def verify_everything(caller: Admin) -> Json:
    """Check the audit of every run, that of the installation, and the signed checkpoints. It reads all of them."""
    context = whole(caller).flow.context
    reports = [report for report in verify_all(context) if not report.is_intact]
    own, signed = verify_installation(context), verify_checkpoints(context)
    findings = [{"run": run_id and str(run_id)} | _finding(each) for run_id, each in signed.findings]
    return {
        "schema": REPORT_SCHEMA,
        "is_intact": not reports and own.is_intact and signed.is_intact,
        "runs": [_told(report) for report in reports],
        "installation": {"events": own.events, "findings": [_finding(each) for each in own.findings]},
        "checkpoints": {
            "checkpoints": signed.checkpoints,
            "leaves": signed.leaves,
            "unchecked": signed.unchecked,
            "findings": findings,
        },
    }


@router.get("/audit/checkpoints")
def signed_checkpoints(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the checkpoints that were signed: their numbers and hashes, to be noted elsewhere."""
    with whole(caller).flow.context.database.transaction() as tx:
        noted = checkpoints.read_all(tx)
    after = number_of(cursor)
    found = sorted(number for number in noted if number > after)
    shown = [{"number": number, "sha256": noted[number]} for number in found[:limit]]
    following = cursor_of((found[limit - 1],)) if len(found) > limit else None
    return {"schema": "agentflow.checkpoints/1", "checkpoints": shown, "next_cursor": following}


@router.get("/audit/key")
def audit_key(caller: Viewer) -> Json:
    """Tell the public key of the signed checkpoints, for whoever verifies them elsewhere."""
    found = find_key(caller.flow.settings)
    if found is None:
        raise NotFound("There is no key of checkpoints here; it is where the dispatcher runs that signs.")
    return {"schema": "agentflow.audit-key/1", "id": found.id, "public_key": found.public}


def _told(report: VerificationReport) -> Json:
    findings = [_finding(each) for each in report.findings]
    return {"run": str(report.run_id), "events": report.events, "findings": findings}


def _finding(each: Finding) -> Json:
    return {"code": str(each.code), "message": each.message, "step": each.step, "sequence": each.sequence}
