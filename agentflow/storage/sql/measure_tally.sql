-- Every count as it stands, folded or not, of one moment.
SELECT metric, labels, upto, sum(count) AS counted, sum(total) AS total FROM tally
GROUP BY metric, labels, upto
ORDER BY metric, labels, upto
