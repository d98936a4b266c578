"""Say who was on call in an hour such as 2026-11-20T14. Usage: on_call.py HOUR

It stands in for a service that is busy: the first two attempts end with exit code 75, which means "try again later".
"""

import os
import sys

ROTA = {range(8): "Noor", range(8, 16): "Ines", range(16, 24): "Tomasz"}

if int(os.environ["AGENTFLOW_ATTEMPT"]) < 3:
    sys.stderr.write("the rota is busy, try again later\n")
    sys.exit(75)
hour = int(sys.argv[1][-2:])
print(next(name for hours, name in ROTA.items() if hour in hours))
