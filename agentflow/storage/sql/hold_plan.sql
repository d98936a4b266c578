-- Keep a plan from being pruned until this transaction ends; no row if there is no such plan.
-- Parameters: fingerprint
SELECT fingerprint FROM plan WHERE fingerprint = :fingerprint FOR KEY SHARE
