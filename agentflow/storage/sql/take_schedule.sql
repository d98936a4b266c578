-- Take a schedule's row for the service that fires; none while another process has it, which does the same work.
-- Parameters: id
-- Lock order: after the installation's row, before any run.
SELECT schedule.*, now() AS at FROM schedule WHERE id = :id FOR NO KEY UPDATE SKIP LOCKED
