-- Make the places that a new run's concurrency keys still lack; there are as many as the largest limit ever asked for.
-- Parameters: keys, limits (arrays, one limit a key)
-- Keeps true: places are numbered from 1 without a gap; keys are taken in order, so that two submits never wait for each
-- other in a circle.
INSERT INTO slot (key, number)
SELECT wanted.key, place.number
FROM unnest(CAST(:keys AS text[]), CAST(:limits AS integer[])) AS wanted (key, places)
CROSS JOIN LATERAL generate_series(
    1 + coalesce((SELECT max(slot.number) FROM slot WHERE slot.key = wanted.key), 0), wanted.places) AS place (number)
ORDER BY wanted.key, place.number
ON CONFLICT (key, number) DO NOTHING
