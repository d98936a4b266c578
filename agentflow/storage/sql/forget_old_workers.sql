-- Forget the workers that nobody has heard of for long.
-- Parameters: days
DELETE FROM worker WHERE seen_at < now() - make_interval(days => :days)
