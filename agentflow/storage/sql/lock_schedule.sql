-- Take a schedule's row for a verb; others wait.
-- Parameters: project, name
-- Lock order: after the installation's row, before any run.
SELECT schedule.*, now() AS at FROM schedule WHERE project = :project AND name = :name FOR NO KEY UPDATE
