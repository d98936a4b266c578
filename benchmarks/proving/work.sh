#!/bin/sh
# What a step's command does: say that it starts, give signs of life every fifth of a second, say that it ends.
# Usage: work.sh JOURNAL TAG FIFTHS [EXIT_CODE [FROM_ATTEMPT_ON_0]]
# With a fifth argument the exit code is 0 from that attempt on.
journal=$1 tag=$2 fifths=$3 code=${4:-0} well_from=${5:-999999}
say() { echo "$1 $AGENTFLOW_RUN_ID $AGENTFLOW_STEP_ID $AGENTFLOW_ATTEMPT $(date +%s.%N) $tag" >>"$journal"; }
say start
while [ "$fifths" -gt 0 ]; do
    sleep 0.2
    say sign
    fifths=$((fifths - 1))
done
[ "$AGENTFLOW_ATTEMPT" -ge "$well_from" ] && code=0
say end
exit "$code"
