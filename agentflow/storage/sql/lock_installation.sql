-- Take the installation's row for a verb that changes something outside of runs.
-- Lock order: before schedules, and before any run. A submit shares it (KEY SHARE) and is let through.
SELECT maintenance, event_sequence, event_head, now() AS at FROM installation WHERE id = 1 FOR NO KEY UPDATE
