-- Close the open gates of steps that go on, or end, without a decision. The caller holds their run alone.
-- Parameters: step_ids
UPDATE gate SET state = 'withdrawn', decided_at = now() WHERE step_id = ANY(CAST(:step_ids AS uuid[])) AND state = 'open'
