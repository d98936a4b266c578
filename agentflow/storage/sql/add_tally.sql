-- Count what leaves no row by which a trigger could count it.
-- Parameters: metric, names (text[]), counts (bigint[], of the same length)
INSERT INTO tally (metric, labels, count)
SELECT :metric, ARRAY[done.name], done.count
FROM unnest(CAST(:names AS text[]), CAST(:counts AS bigint[])) AS done (name, count)
