-- The events of the installation's own chain with the head that its row carries; of one moment. One row without an event for an empty chain.
SELECT installation.event_sequence AS head_sequence, installation.event_head AS head,
       event.run_id, event.step_id, event.sequence, event.at, event.actor, event.action, event.subject, event.moved,
       event.reason, event.verdict, event.facts, event.mac
FROM installation
LEFT JOIN audit_event AS event ON event.run_id = '00000000-0000-0000-0000-000000000000'
ORDER BY event.sequence
