-- What pruned runs used in all, as it was folded and as their tombstones say it.
SELECT folded.input_tokens, folded.output_tokens, folded.usd_nano,
       told.input_tokens AS told_input_tokens, told.output_tokens AS told_output_tokens, told.usd_nano AS told_usd_nano
FROM (SELECT coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
             coalesce(sum(usd_nano), 0) AS usd_nano FROM folded_usage) AS folded,
     (SELECT coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
             coalesce(sum(usd_nano), 0) AS usd_nano FROM tombstone) AS told
