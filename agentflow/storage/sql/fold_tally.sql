-- Fold the rows of each count into one, some thousands of rows at a time.
-- Parameters: limit
-- Keeps true: what a reader sums is the same before and after, since rows leave and their sum comes in one statement. Two
-- that fold at once take different rows. Where nothing was added since, nothing is written.
WITH found AS (
    SELECT ctid FROM tally
    WHERE (SELECT count(*) > count(DISTINCT (metric, labels, upto)) FROM tally)
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM tally WHERE ctid = ANY(ARRAY(SELECT ctid FROM found))
    RETURNING metric, labels, upto, count, total
), folded AS (
    INSERT INTO tally (metric, labels, upto, count, total)
    SELECT metric, labels, upto, sum(count), sum(total) FROM taken GROUP BY metric, labels, upto
    RETURNING 1
)
SELECT (SELECT count(*) FROM taken) AS taken, (SELECT count(*) FROM folded) AS folded
