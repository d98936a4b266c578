"""The deployment's beat: ``celery -A beat beat`` keeps the schedules and hosts the standby dispatcher.

Entries of your own go here, and fire beside them:

app.conf.beat_schedule = {"report": {"task": "mine.report", "schedule": 60.0, "options": {"queue": "mine"}}}
"""

from agentflow.worker.beat_service import make_beat_app

app = make_beat_app()
