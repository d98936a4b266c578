"""The defaults of `agentflow flower`, in Flower's own form: each name is one of its options, read when it starts.

FLOWER_<OPTION> in the environment, config/flowerconfig.py below the working directory (or the file that
AGENTFLOW_FLOWER_CONFIG names) and --option on the command line win, in this order, the last one most.
"""

# Flower can end steps and shut workers down: it is this machine's until somebody gives it a password and an address.
address = "127.0.0.1"

# Running workers send events while a Flower asks for them and stop when the last has gone, as they cost a worker up to
# half of its throughput (docs/decisions/0010). Off, Flower shows the steps of those workers only that send events by
# their own will: AGENTFLOW_WORKER_EVENTS=true, or -E.
enable_events = True

# A step as agentflow names it: the kwargs hold run_id and step_id, the uuid is the step's own over all its attempts.
tasks_columns = "name,kwargs,state,retries,exception,received,started,runtime,worker,uuid"

# ISO times: "a minute ago" cannot be compared with a log.
natural_time = False

# Steps that Flower remembers, about 5 KB each; the oldest go first. What happened before stands in `agentflow show`.
max_tasks = 20_000

# Seconds until a worker that is gone leaves the list; every start of a worker with a name of its own leaves one.
purge_offline_workers = 3600
