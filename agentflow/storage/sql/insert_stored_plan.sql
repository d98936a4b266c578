-- Give a plan the next version of its name. The caller holds the installation (lock_installation.sql).
-- Parameters: project, name, fingerprint, pushed_by
-- Keeps true: versions of a name count from 1 without a gap; a plan that is the newest version already gets no new one (no row).
WITH newest AS (
    SELECT version, fingerprint FROM stored_plan WHERE project = :project AND name = :name
    ORDER BY version DESC LIMIT 1
)
INSERT INTO stored_plan (project, name, version, fingerprint, pushed_by)
SELECT :project, :name, 1 + coalesce((SELECT version FROM newest), 0), :fingerprint, :pushed_by
WHERE NOT EXISTS (SELECT FROM newest WHERE fingerprint = :fingerprint)
RETURNING version
