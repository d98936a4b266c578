-- How many attempts of a step, in a row before this one, ended for one of these reasons. The caller holds the step.
-- Parameters: step_id, number (this attempt's), codes (text[])
SELECT count(*) FROM attempt
WHERE step_id = :step_id AND number < :number AND number > coalesce((
    SELECT max(other.number) FROM attempt AS other
    WHERE other.step_id = :step_id AND other.number < :number
      AND NOT (other.state IN ('lost', 'released') AND (other.reason ->> 'code') = ANY(CAST(:codes AS text[])))), 0)
