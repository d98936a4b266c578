-- What the database knows of ends that were signed: the event that ended the run, and its tombstone if it was pruned since; of one moment.
-- Parameters: run_ids, sequences
SELECT asked.run_id, asked.sequence, event.mac, event.facts ->> 'seal' AS seal,
       run.id IS NOT NULL AS is_there, tombstone.round AS tombstone_round, tombstone.seal AS tombstone_seal,
       tombstone.event_count AS tombstone_events, tombstone.event_head AS tombstone_head
FROM unnest(CAST(:run_ids AS uuid[]), CAST(:sequences AS int[])) AS asked (run_id, sequence)
LEFT JOIN audit_event AS event
  ON event.run_id = asked.run_id AND event.step_id IS NULL AND event.sequence = asked.sequence
LEFT JOIN run ON run.id = asked.run_id
LEFT JOIN tombstone ON tombstone.run_id = asked.run_id
