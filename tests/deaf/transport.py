"""No channel ever thinks that it has room for a message, however often the consumer connects."""

from __future__ import annotations

from kombu.transport.virtual import QoS

QoS.can_consume = lambda _qos: False
